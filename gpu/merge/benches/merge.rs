//! Merges two bf16 checkpoints of Llama's shape by turns with the plainest loop that could do it: read, lerp, write.
//!
//!     cargo bench --workspace --profile release --bench merge -- [GB] [METHOD…, or all]
//!
//! Needs four times as much disk as GB (2.2) in the temporary folder. CPU seconds are user and system.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at a failure")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use tracker_merge::{Base, Merge, Recipe};

/// Llama-1.1B's tensors: an embedding, a head, and layers of seven matrices; 2.2 GB in bf16.
fn shapes(gb: f64) -> Vec<(String, usize, usize)> {
    let n_layers = ((gb * 1e9 / 2.0 - 2.0 * 32_000.0 * 2_048.0) / 44_044_288.0).round().max(1.0) as usize;
    let mut all = vec![("model.embed_tokens.weight".to_owned(), 32_000, 2_048)];
    for layer in 0..n_layers {
        for (name, rows, columns) in [
            ("self_attn.q_proj", 2_048, 2_048),
            ("self_attn.k_proj", 256, 2_048),
            ("self_attn.v_proj", 256, 2_048),
            ("self_attn.o_proj", 2_048, 2_048),
            ("mlp.gate_proj", 5_632, 2_048),
            ("mlp.up_proj", 5_632, 2_048),
            ("mlp.down_proj", 2_048, 5_632),
        ] {
            all.push((format!("model.layers.{layer}.{name}.weight"), rows, columns));
        }
    }
    all.push(("lm_head.weight".to_owned(), 32_000, 2_048));
    all
}

fn write_model(dir: &Path, shapes: &[(String, usize, usize)], seed: u64) {
    std::fs::create_dir_all(dir).unwrap();
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, rows, columns) in shapes {
        let end = at + rows * columns * 2;
        header.insert(
            name.clone(),
            serde_json::json!({"dtype": "BF16", "shape": [rows, columns], "data_offsets": [at, end]}),
        );
        at = end;
    }
    let text = serde_json::to_string(&header).unwrap();
    let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(dir.join("model.safetensors")).unwrap());
    file.write_all(&(text.len() as u64).to_le_bytes()).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut state = seed;
    for _ in 0..at / 2 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Magnitudes from 2⁻⁹ to 2⁻⁵, either sign.
        let bits = (0x3b00 + ((state >> 40) as u16 & 0x01ff)) | ((state >> 20) as u16 & 0x8000);
        file.write_all(&bits.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    std::fs::write(dir.join("config.json"), "{\"num_hidden_layers\": 22}").unwrap();
}

/// The rival: one thread, 1 MiB at a time.
fn plain(a: &Path, b: &Path, out: &Path) {
    let open = |path: &Path| File::open(path.join("model.safetensors")).unwrap();
    let (mut a, mut b, mut out) = (open(a), open(b), File::create(out).unwrap());
    let (mut x, mut y) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let n = a.read(&mut x).unwrap();
        if n == 0 {
            break;
        }
        b.read_exact(&mut y[..n]).unwrap();
        lerp(&mut x[..n], &y[..n]);
        out.write_all(&x[..n]).unwrap();
    }
}

#[inline(never)]
fn lerp(x: &mut [u8], y: &[u8]) {
    for (x, y) in x.as_chunks_mut::<2>().0.iter_mut().zip(y.as_chunks::<2>().0) {
        let wide = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        let bits = (0.3 * wide(x) + 0.7 * wide(y)).to_bits();
        *x = ((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16).to_le_bytes();
    }
}

/// CPU seconds of this process so far, user and system.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Peak resident memory so far, in MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
}

fn timed(name: &str, work: impl FnOnce()) -> f64 {
    let (wall, cpu) = (Instant::now(), cpu_secs());
    work();
    let cpu = cpu_secs() - cpu;
    println!("{name}: {:.2} s wall, {cpu:.2} CPU s, peak so far {:.0} MB", wall.elapsed().as_secs_f64(), peak_mb());
    cpu
}

fn recipe(method: &str) -> String {
    if method == "linear" {
        return "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 0.3}}\n- {model: b, parameters: {weight: 0.7}}\n"
            .to_owned();
    }
    let row = tracker_merge::methods().iter().find(|row| row.name == method).unwrap();
    let has = |name: &str| row.args.iter().any(|arg| arg.name == name);
    let model = |name: &str, weight: f64| {
        let weight = if has("weight") { format!("weight: {weight}, ") } else { String::new() };
        let density = if has("density") { "density: 0.5" } else { "" };
        format!("{{model: {name}, parameters: {{{weight}{density}}}}}")
    };
    let models = [model("b", 1.0), model("c", 0.5)][..row.n_inputs.1.min(2)].join(", ");
    let base = if row.base == Base::Unused { "" } else { "base_model: a\n" };
    let shared = if has("t") { "t: 0.004" } else { "" };
    format!("merge_method: {method}\n{base}models: [{models}]\nparameters: {{{shared}}}\n")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let gb: f64 = args.first().map_or(2.2, |gb| gb.parse().unwrap());
    let methods: Vec<&str> = match &args.iter().skip(1).map(String::as_str).collect::<Vec<_>>()[..] {
        [] => vec!["linear", "slerp", "ties", "dare_ties"],
        ["all"] => tracker_merge::methods().iter().map(|row| row.name).collect(),
        some => some.to_vec(),
    };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let shapes = shapes(gb);
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
        write_model(&at(name), &shapes, seed);
    }
    let n_bytes: usize = shapes.iter().map(|(_, rows, columns)| rows * columns * 2).sum();
    println!("{:.2} GB each", n_bytes as f64 / 1e9);
    for method in methods {
        for round in 0..3 {
            if method == "linear" {
                timed("plain read, lerp, write", || plain(&at("a"), &at("b"), &at("plain")));
                std::fs::remove_file(at("plain")).unwrap();
            }
            let text = recipe(method);
            let merge = Merge::plan(Recipe::parse("bench", &text).unwrap(), &text, dir.path()).unwrap();
            let cpu = timed(&format!("{method}, round {round}"), || {
                merge.run(&at("out"), 2, &|_, _| {}).unwrap();
            });
            println!("    {:.2} CPU s a GB written", cpu / (n_bytes as f64 / 1e9));
            std::fs::remove_dir_all(at("out")).unwrap();
        }
    }
}
