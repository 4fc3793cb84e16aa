#version 330
in vec2 T;
out vec4 colour;
uniform sampler2D albedo_map;

#ifdef LINEAR
void main() { colour = vec4(texture(albedo_map, T).rgb, 1.0); }
#else
void main() { colour = vec4(pow(texture(albedo_map, T).rgb, vec3(2.2)), 1.0); }
#endif
