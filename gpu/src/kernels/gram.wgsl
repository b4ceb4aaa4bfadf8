// Inner products of rows: a workgroup takes eight rows by eight. Twin of `gram_on_cpu` in random_features.rs.

struct Params { n: u32, n_cols: u32, n_wide: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) own: u32) {
    let row = (group.x / params.n_wide) * 8u + own / 8u;
    let col = (group.x % params.n_wide) * 8u + own % 8u;
    if row >= params.n || col >= params.n { return; }
    var sum = 0.0;
    for (var i = 0u; i < params.n_cols; i++) {
        sum += x[row * params.n_cols + i] * x[col * params.n_cols + i];
    }
    out[row * params.n + col] = sum;
}
