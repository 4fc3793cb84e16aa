#version 330
uniform mat4 view_projection;
in vec3 position;
in vec2 uv;
out vec2 T;

void main() {
    T = uv;
    gl_Position = view_projection * vec4(position, 1.0);
}
