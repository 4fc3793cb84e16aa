#version 330
// Exact texture coordinate, part id and depth of the nearest surface.
in vec2 T;
out vec4 colour;
uniform sampler2D albedo_map;
uniform int material;
uniform float part;

void main() {
    if ((material == 1 || material == 2) && texture(albedo_map, T).a < 0.5) discard;
    colour = vec4(T, part, gl_FragCoord.z);
}
