#version 330
// Passes world position, normal, texture coordinate and baked occlusion on.
uniform mat4 view_projection;
in vec3 position;
in vec3 normal;
in vec2 uv;
in float occlusion;
out vec3 P;
out vec3 N;
out vec2 T;
out float A;

void main() {
    P = position;
    N = normal;
    T = uv;
    A = occlusion;
    gl_Position = view_projection * vec4(position, 1.0);
}
