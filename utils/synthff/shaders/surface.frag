#version 330
// Materials: 0 skin, 1 eye, 2 strands (hair, brows, lashes), 3 wet (teeth, tongue), 4 cloth, 5 frames, 6 lenses.
// SECOND is defined for people of the second release.
in vec3 P;
in vec3 N;
in vec2 T;
in float A;
out vec4 colour;
uniform sampler2D albedo_map;
uniform sampler2D detail_map;
uniform sampler2D shadow_map;
uniform mat4 light_projection;
uniform int material;
uniform vec3 eye;
uniform vec3 light_direction[3];
uniform vec3 light_colour[3];
#ifdef SECOND
uniform vec3 around[9];  // ambient light, see rooms.basis
const int FRAMES = 5, LENSES = 6;
const vec4 HEAD_WINDOW = vec4(0.64, 0.14, 1.0, 0.83);  // of the skin's fine layer in the atlas
const float NEUTRAL = 0.4;
#else
uniform vec3 sky;
uniform vec3 ground;
#endif
uniform vec3 tint;
uniform float gloss;
uniform float ao_floor;

const int SKIN = 0, EYE = 1, STRANDS = 2, WET = 3;
const float BUMP = 0.035;  // decimetres of relief at full height

// Share of the key light that arrives, by nine taps of the shadow map.
float key_visibility(vec3 n) {
    vec4 q = light_projection * vec4(P + n * 0.02, 1.0);
    vec3 s = q.xyz * 0.5 + 0.5;
    vec2 texel = 2.2 / vec2(textureSize(shadow_map, 0));
    float lit = 0.0;
    for (int i = -1; i <= 1; i++)
        for (int j = -1; j <= 1; j++)
            lit += (s.z - 0.0025 <= texture(shadow_map, s.xy + vec2(i, j) * texel).r) ? 1.0 : 0.0;
    return lit / 9.0;
}

// Bend the normal by a height map (Mikkelsen 2010); a degenerate footprint leaves it as it is.
vec3 bump(vec3 n, float height) {
    vec3 px = dFdx(P), py = dFdy(P);
    float hx = dFdx(height), hy = dFdy(height);
    vec3 rx = cross(py, n), ry = cross(n, px);
    float det = dot(px, rx);
    vec3 bent = abs(det) * n - sign(det) * (hx * rx + hy * ry);
    float len = length(bent);
    if (len < 1e-12 || abs(det) < 1e-14) return n;
    bent /= len;
    return dot(bent, n) > 0.3 ? bent : n;
}

#ifdef SECOND
vec3 ambient(vec3 n) {
    vec3 light = around[0] + around[1] * n.y + around[2] * n.z + around[3] * n.x + around[4] * n.x * n.y;
    light += around[5] * n.y * n.z + around[6] * (3.0 * n.z * n.z - 1.0) + around[7] * n.x * n.z;
    return max(light + around[8] * (n.x * n.x - n.y * n.y), vec3(0.0));
}
#endif

float specular(vec3 n, vec3 L, vec3 V, float facing) {
    vec3 H = normalize(L + V);
    float nh = max(dot(n, H), 0.0), vh = max(dot(V, H), 0.0);
    float fresnel = 0.028 + 0.972 * pow(1.0 - vh, 5.0);
#ifdef SECOND
    if (material == SKIN)
        return fresnel * (pow(nh, 10.0) * 0.9 + pow(nh, 42.0) * 2.2) * gloss * max(facing, 0.0);
    if (material == EYE)
        return fresnel * (pow(nh, 260.0) * 70.0 + pow(nh, 40.0) * 1.5) * max(facing, 0.0);
    if (material == STRANDS) {
        vec3 strand = normalize(vec3(0, 1, 0) - n * n.y);
        float th = dot(strand, H);
        return 0.06 * pow(max(1.0 - th * th, 0.0), 24.0) * gloss * max(facing + 0.2, 0.0);
    }
    if (material == WET)
        return fresnel * pow(nh, 60.0) * 5.0 * max(facing, 0.0);
    if (material == FRAMES)
        return (fresnel + 0.02) * pow(nh, 50.0) * 6.0 * max(facing, 0.0);
    if (material == LENSES)
        return pow(nh, 400.0) * 2.0 * max(facing, 0.0);
    return 0.0;
#else
    if (material == SKIN)
        return fresnel * (0.75 * pow(nh, 18.0) * 2.5 + 0.4 * pow(nh, 70.0) * 9.0) * gloss * max(facing, 0.0) * 1.1;
    if (material == EYE)
        return fresnel * (pow(nh, 700.0) * 90.0 * step(0.0, facing) + pow(nh, 60.0) * 1.5 * max(facing, 0.0));
    if (material == STRANDS) {  // Kajiya-Kay with strands that hang down
        vec3 strand = normalize(vec3(0, 1, 0) - n * n.y);
        float th = dot(strand, H);
        return 0.10 * pow(max(1.0 - th * th, 0.0), 30.0) * gloss * max(facing + 0.2, 0.0);
    }
    if (material == WET)
        return fresnel * pow(nh, 90.0) * 8.0 * max(facing, 0.0);
    return 0.0;
#endif
}

void main() {
    vec4 texel = texture(albedo_map, T);
    vec3 n = normalize(N), V = normalize(eye - P);
    if (material == STRANDS) {
#ifdef SECOND
        // Each pixel has its own threshold: supersampled, strands get soft edges.
        float lot = fract(52.9829189 * fract(dot(gl_FragCoord.xy, vec2(0.06711056, 0.00583715))));
        if (texel.a < 0.25 + 0.4 * lot) discard;
#else
        if (texel.a < 0.42) discard;
#endif
        if (dot(n, V) < 0.0) n = -n;
    }
    if (material == EYE && texel.a < 0.5) discard;
    vec3 albedo = pow(texel.rgb, vec3(2.2)) * tint;
#ifdef SECOND
    if (material == LENSES) {  // a thin reflection of what is around, and each light's image
        if (dot(n, V) < 0.0) n = -n;
        float edge = 0.03 + 0.5 * pow(1.0 - max(dot(n, V), 0.0), 4.0);
        vec3 mirrored = ambient(reflect(-V, n)) * edge;
        for (int i = 0; i < 3; i++)
            mirrored += light_colour[i] * specular(n, light_direction[i], V, dot(n, light_direction[i])) * 0.25;
        colour = vec4(mirrored, 0.05);
        return;
    }
    if (material == SKIN) {
        vec2 at = (T - HEAD_WINDOW.xy) / (HEAD_WINDOW.zw - HEAD_WINDOW.xy);
        vec4 detail = texture(detail_map, at);
        vec2 inside = step(abs(at - 0.5), vec2(0.5));
        if (inside.x * inside.y > 0.5) {
            albedo *= detail.rgb / NEUTRAL;
            n = bump(n, detail.a * BUMP);
        }
    }
#else
    if (material == SKIN) {
        vec4 detail = texture(detail_map, T);
        albedo *= detail.rgb * 2.0;
        n = bump(n, detail.a * BUMP);
    }
#endif
    float ao = mix(ao_floor, 1.0, A);
    float shadow = key_visibility(n);
    // Light that wandered through skin is red: occlusion and shadow edges lose green and blue first.
    vec3 ao_colour = material == SKIN ? pow(vec3(ao), vec3(0.75, 1.05, 1.15)) : vec3(ao);
#ifdef SECOND
    if (material == EYE) shadow = mix(shadow, 1.0, 0.3);  // light that lids and lashes let through
    vec3 result = albedo * ao_colour * ambient(n);
#else
    vec3 result = albedo * ao_colour * mix(ground, sky, n.y * 0.5 + 0.5);
#endif
    vec3 wrap = material == SKIN ? vec3(0.32, 0.14, 0.09) : vec3(material == STRANDS ? 0.35 : 0.08);
    for (int i = 0; i < 3; i++) {
        float facing = dot(n, light_direction[i]);
        float visible = i == 0 ? shadow : mix(ao, 1.0, 0.25);
        vec3 diffuse = clamp((facing + wrap) / (1.0 + wrap), 0.0, 1.0);
        vec3 arriving = vec3(visible);
        if (material == SKIN) {
            diffuse = diffuse * diffuse * (3.0 - 2.0 * diffuse) * 0.35 + diffuse * 0.65;
            arriving = mix(arriving, pow(arriving, vec3(0.5, 0.95, 1.05)), 0.8);
        }
        vec3 body = albedo * diffuse * arriving * mix(1.0, ao, 0.35);
        result += light_colour[i] * (body + specular(n, light_direction[i], V, facing) * visible);
    }
    if (material == STRANDS) result *= mix(0.45, 1.0, A);
    colour = vec4(result, 1.0);
}
