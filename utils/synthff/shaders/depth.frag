#version 330
in vec2 T;
uniform sampler2D albedo_map;
uniform int material;

void main() {
    if ((material == 1 || material == 2) && texture(albedo_map, T).a < 0.5) discard;
}
