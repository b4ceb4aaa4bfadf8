//! Methods on tensors of many shapes against oracles written from the formulas, on whole vectors in f64.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tracker_merge::{Error, Merge, Recipe};

/// Tensors: a matrix, a wide one of several tiles, a vector, one element in two ways, a kernel; then a matrix that is equal
/// in all models, one where they point the same way, and one where they point opposite ways.
const TENSORS: [(&str, &[usize]); 9] = [
    ("matrix", &[30, 37]),
    ("wide", &[3, 5000]),
    ("vector", &[257]),
    ("one", &[1]),
    ("scalar", &[]),
    ("kernel", &[5, 3, 4]),
    ("equal", &[8, 9]),
    ("parallel", &[7, 16]),
    ("opposed", &[7, 16]),
];
const MODELS: [&str; 4] = ["base", "a", "b", "c"];

/// A number of a stream, in [-1, 1).
fn noise(seed: u64, i: u64) -> f32 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i;
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    ((x ^ (x >> 29)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn value(model: usize, tensor: usize, i: u64) -> f32 {
    let base = 0.0625 * noise(tensor as u64, i);
    let own = 0.01 * noise(1000 + 100 * model as u64 + tensor as u64, i);
    match (TENSORS[tensor].0, model) {
        ("equal", _) | ("parallel", 0 | 1) | (_, 0) => base,
        ("parallel", _) => 2.0 * base,
        ("opposed", 1) => 3.0 * base,
        ("opposed", 2) => -base,
        _ => base + own,
    }
}

fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

fn widen(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

fn family() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (model, name) in MODELS.into_iter().enumerate() {
        let tensors: Vec<Vec<u8>> = (0..TENSORS.len())
            .map(|t| {
                let n: usize = TENSORS[t].1.iter().product();
                (0..n as u64).flat_map(|i| half(value(model, t, i)).to_le_bytes()).collect()
            })
            .collect();
        let views = TENSORS.iter().zip(&tensors).map(|((name, shape), bytes)| {
            ((*name).to_owned(), TensorView::new(Dtype::BF16, shape.to_vec(), bytes).unwrap())
        });
        std::fs::create_dir(folder.path().join(name)).unwrap();
        serialize_to_file(views, None, &folder.path().join(name).join("model.safetensors")).unwrap();
    }
    folder
}

fn merge(folder: &tempfile::TempDir, recipe: &str, n_threads: usize) -> Result<BTreeMap<String, Vec<f32>>, Error> {
    let out = folder.path().join("out");
    let merged = Merge::plan(Recipe::parse("r.yml", recipe)?, recipe, folder.path())?.run(&out, n_threads, &|_, _| {});
    std::fs::remove_dir_all(folder.path().join("out.part")).ok();
    merged?;
    let bytes = std::fs::read(out.join("model.safetensors")).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |data: &[u8]| data.chunks_exact(2).map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect();
    Ok(tensors.iter().map(|(name, view)| (name.to_owned(), numbers(view.data()))).collect())
}

/// One tensor of all models, in f64.
struct Tensor {
    name: &'static str,
    shape: &'static [usize],
    base: Vec<f64>,
    models: Vec<Vec<f64>>,
}

impl Tensor {
    fn all(n_models: usize) -> Vec<Self> {
        let of = |t: usize, model: usize| {
            let n: usize = TENSORS[t].1.iter().product();
            (0..n as u64).map(|i| f64::from(widen(half(value(model, t, i))))).collect::<Vec<f64>>()
        };
        let tensor = |t: usize| Self {
            name: TENSORS[t].0,
            shape: TENSORS[t].1,
            base: of(t, 0),
            models: (1..=n_models).map(|model| of(t, model)).collect(),
        };
        (0..TENSORS.len()).map(tensor).collect()
    }

    fn deltas(&self) -> Vec<Vec<f64>> {
        self.models.iter().map(|x| minus(x, &self.base)).collect()
    }

    fn row(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Elements that belong together: rows along the last side, or columns along the first.
    fn groups(&self, is_by_columns: bool) -> Vec<Vec<usize>> {
        let n = self.base.len();
        if is_by_columns && self.shape.len() > 1 {
            let n_columns = n / self.shape[0];
            return (0..n_columns).map(|column| (column..n).step_by(n_columns).collect()).collect();
        }
        (0..n).collect::<Vec<usize>>().chunks(self.row()).map(<[usize]>::to_vec).collect()
    }
}

fn minus(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x - y).collect()
}

fn plus(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

fn times(a: f64, x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| a * x).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

fn pick(x: &[f64], at: &[usize]) -> Vec<f64> {
    at.iter().map(|i| x[*i]).collect()
}

/// Merges and compares: within one bf16 unit of the oracle, and the same on one thread and three.
fn check(recipe: &str, n_models: usize, oracle: impl Fn(&Tensor) -> Option<Vec<f64>>) {
    let folder = family();
    let got = merge(&folder, recipe, 3).unwrap();
    assert_eq!(got, merge(&folder, recipe, 1).unwrap());
    let mut n_checked = 0;
    for tensor in Tensor::all(n_models) {
        let Some(want) = oracle(&tensor) else { continue };
        n_checked += 1;
        assert_eq!(want.len(), got[tensor.name].len());
        for (i, (got, want)) in got[tensor.name].iter().zip(&want).enumerate() {
            let bits = ((*want as f32).abs().to_bits() & 0x7f80_0000).max(0x0100_0000);
            let ulp = f64::from(f32::from_bits(bits)) / 128.0;
            assert!((f64::from(*got) - want).abs() <= ulp, "{}[{i}]: {got} and {want}", tensor.name);
        }
    }
    assert!(n_checked >= 6, "{n_checked}");
}

fn recipe(method: &str, base: bool, models: &[&str], parameters: &str) -> String {
    let base = if base { "base_model: base\n" } else { "" };
    let models = models.join(", ");
    format!("merge_method: {method}\n{base}models: [{models}]\nparameters: {{{parameters}}}\n")
}

fn arc(t: f64, u: &[f64], v: &[f64]) -> Vec<f64> {
    let unit = |x: &[f64]| times(1.0 / norm(x).max(1e-7), x);
    let cosine = dot(&unit(u), &unit(v)).clamp(-1.0, 1.0);
    if 1.0 - cosine * cosine < 1e-14 {
        return plus(&times(1.0 - t, u), &times(t, v));
    }
    let angle = cosine.acos();
    plus(&times(((1.0 - t) * angle).sin() / angle.sin(), u), &times((t * angle).sin() / angle.sin(), v))
}

#[test]
fn nuslerp_is_an_arc_of_the_whole_of_rows_or_of_columns() {
    let models = ["{model: a, parameters: {weight: 1}}", "{model: b, parameters: {weight: 3}}"];
    for has_base in [false, true] {
        for (parameters, rows) in [
            ("", None),
            ("nuslerp_flatten: false", Some(false)),
            ("nuslerp_flatten: false, nuslerp_row_wise: true", Some(true)),
        ] {
            check(&recipe("nuslerp", has_base, &models, parameters), 2, |tensor| {
                let base = if has_base { tensor.base.clone() } else { vec![0.0; tensor.base.len()] };
                let (u, v) = (minus(&tensor.models[0], &base), minus(&tensor.models[1], &base));
                let groups = rows.map_or_else(|| vec![(0..base.len()).collect()], |rows| tensor.groups(rows));
                let mut merged = vec![0.0; base.len()];
                for group in groups {
                    for (i, value) in group.iter().zip(arc(0.75, &pick(&u, &group), &pick(&v, &group))) {
                        merged[*i] = base[*i] + value;
                    }
                }
                Some(merged)
            });
        }
    }
    // Weights that cancel mean the middle.
    let models = ["{model: a, parameters: {weight: 1}}", "{model: b, parameters: {weight: -1}}"];
    check(&recipe("nuslerp", false, &models, ""), 2, |tensor| Some(arc(0.5, &tensor.models[0], &tensor.models[1])));
}

#[test]
fn multislerp_steps_in_the_tangent_space_at_the_mean_direction() {
    let models = [0.5, 1.0, 2.0].map(|weight| {
        let name = if weight == 0.5 {
            "a"
        } else if weight == 1.0 {
            "b"
        } else {
            "c"
        };
        format!("{{model: {name}, parameters: {{weight: {weight}}}}}")
    });
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    for (has_base, normalize) in [(false, true), (true, true), (true, false)] {
        let parameters = format!("normalize_weights: {normalize}");
        check(&recipe("multislerp", has_base, &models, &parameters), 3, |tensor| {
            let vectors = if has_base { tensor.deltas() } else { tensor.models.clone() };
            let n = tensor.base.len();
            let total = if normalize { 3.5 } else { 1.0 };
            let weights = [0.5, 1.0, 2.0].map(|weight| weight / total);
            let eps = 1e-8;
            if vectors.iter().all(|x| norm(x) == 0.0) {
                return Some(tensor.base.clone());
            }
            let units: Vec<Vec<f64>> = vectors.iter().map(|x| times(1.0 / (norm(x) + eps), x)).collect();
            let sum = |terms: Vec<Vec<f64>>| terms.iter().fold(vec![0.0; n], |sum, term| plus(&sum, term));
            let mean = sum(units.iter().zip(weights).map(|(u, w)| times(w, u)).collect());
            let mean = times(1.0 / norm(&mean), &mean);
            let tangent = |(u, w): (&Vec<f64>, f64)| times(w, &minus(u, &times(dot(u, &mean), &mean)));
            let tangent = sum(units.iter().zip(weights).map(tangent).collect());
            let angle = norm(&tangent) + eps;
            let reach: f64 = vectors.iter().zip(weights).map(|(x, w)| w * norm(x)).sum();
            let point = plus(&times(angle.cos(), &mean), &times(angle.sin() / angle, &tangent));
            let merged = times(reach, &point);
            Some(if has_base { plus(&merged, &tensor.base) } else { merged })
        });
    }
}

#[test]
fn models_that_cancel_are_summed_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let x: Vec<f32> = (0..64).map(|i| 0.5 * noise(5, i)).collect();
    for (name, sign) in [("a", 1.0), ("b", -1.0), ("c", 0.0)] {
        let bytes: Vec<u8> = x.iter().flat_map(|x| half(sign * x).to_le_bytes()).collect();
        let view = TensorView::new(Dtype::BF16, vec![64], &bytes).unwrap();
        std::fs::create_dir(folder.path().join(name)).unwrap();
        serialize_to_file([("w", view)], None, &folder.path().join(name).join("model.safetensors")).unwrap();
    }
    let weighed = |name: &str| format!("{{model: {name}, parameters: {{weight: 0.3}}}}");
    let two = recipe("multislerp", false, &[&weighed("a"), &weighed("b")], "");
    assert!(merge(&folder, &two, 1).unwrap()["w"].iter().all(|x| *x == 0.0));
    let three = recipe("multislerp", false, &[&weighed("a"), &weighed("b"), &weighed("c")], "");
    let error = merge(&folder, &three, 1).unwrap_err().to_string();
    assert!(error.contains("`w`") && error.contains("cancel"), "{error}");
    // A Karcher mean begins at the first of them, and of a and -a stays there: the tangent there has no direction.
    let got = merge(&folder, &recipe("karcher", false, &["{model: a}", "{model: b}"], "max_iter: 0"), 1).unwrap();
    assert!(got["w"].iter().zip(&x).all(|(got, x)| half(*got) == half(*x)));
}

#[test]
fn karcher_walks_to_the_mean_on_the_sphere() {
    for (base, parameters) in [(false, ""), (true, ""), (true, "max_iter: 2"), (false, "max_iter: 50, tol: 1.0e-3")] {
        let models = ["{model: a}", "{model: b}", "{model: c}"];
        let (n_steps, tol) = match parameters {
            "max_iter: 2" => (2, 1e-5),
            "" => (10, 1e-5),
            _ => (50, 1e-3),
        };
        check(&recipe("karcher", base, &models, parameters), 3, |tensor| {
            if tensor.name == "opposed" {
                return None;
            }
            let mut points = tensor.models.clone();
            if base {
                points.push(tensor.base.clone());
            }
            let share = 1.0 / points.len() as f64;
            let units: Vec<Vec<f64>> = points.iter().map(|x| times(1.0 / norm(x), x)).collect();
            let n = tensor.base.len();
            let mean = units.iter().fold(vec![0.0; n], |sum, u| plus(&sum, &times(share, u)));
            let mut mean = times(1.0 / norm(&mean), &mean);
            for _ in 0..n_steps {
                let mut tangent = vec![0.0; n];
                for unit in &units {
                    let cosine = dot(unit, &mean).clamp(-1.0, 1.0);
                    let angle = cosine.acos();
                    if angle >= tol {
                        let step = minus(unit, &times(cosine, &mean));
                        tangent = plus(&tangent, &times(share * angle / angle.sin(), &step));
                    }
                }
                let reach = norm(&tangent);
                if reach < tol {
                    break;
                }
                mean = plus(&times(reach.cos(), &mean), &times(reach.sin() / reach, &tangent));
                mean = times(1.0 / norm(&mean), &mean);
            }
            Some(times(share * points.iter().map(|x| norm(x)).sum::<f64>(), &mean))
        });
    }
}

#[test]
fn model_stock_goes_as_far_as_differences_agree() {
    for (filter_wise, n_models) in [(false, 2), (false, 3), (true, 2), (true, 3)] {
        let models = &["{model: a}", "{model: b}", "{model: c}"][..n_models];
        check(&recipe("model_stock", true, models, &format!("filter_wise: {filter_wise}")), n_models, |tensor| {
            let deltas = tensor.deltas();
            let groups = if filter_wise { tensor.groups(false) } else { vec![(0..tensor.base.len()).collect()] };
            let mut merged = tensor.base.clone();
            for group in groups {
                let deltas: Vec<Vec<f64>> = deltas.iter().map(|delta| pick(delta, &group)).collect();
                let mut cosines = Vec::new();
                for (i, a) in deltas.iter().enumerate() {
                    for b in &deltas[i + 1..] {
                        cosines.push((dot(a, b) / (norm(a) * norm(b)).max(1e-6)).clamp(-1.0, 1.0));
                    }
                }
                let (n, cosine) = (n_models as f64, cosines.iter().sum::<f64>() / cosines.len() as f64);
                let divisor = 1.0 + (n - 1.0) * cosine;
                let t = if divisor.abs() < 1e-6 { 0.0 } else { n * cosine / divisor };
                for (at, i) in group.iter().enumerate() {
                    let mean = deltas.iter().map(|delta| delta[at]).sum::<f64>() / n;
                    merged[*i] = tensor.base[*i] + t * mean;
                }
            }
            Some(merged)
        });
    }
}

#[test]
fn sce_selects_by_variance_weighs_by_energy_and_erases_minorities() {
    let models = ["{model: a}", "{model: b}", "{model: c}"];
    for topk in [1.0, 0.4, 0.0] {
        check(&recipe("sce", true, &models, &format!("select_topk: {topk}")), 3, |tensor| {
            let mut deltas = tensor.deltas();
            let n = tensor.base.len();
            let deviation = |i: usize| {
                let mean = deltas.iter().map(|delta| delta[i]).sum::<f64>() / 3.0;
                (deltas.iter().map(|delta| (delta[i] - mean).powi(2)).sum::<f64>() / 3.0).sqrt() as f32
            };
            let spread: Vec<f32> = (0..n).map(deviation).collect();
            let mut order: Vec<usize> = (0..n).filter(|i| spread[*i] != 0.0).collect();
            let n_kept = (order.len() as f64 * topk) as usize;
            order.sort_by(|a, b| spread[*b].total_cmp(&spread[*a]));
            let kept = if topk < 1.0 { order[..n_kept].to_vec() } else { (0..n).collect() };
            for delta in &mut deltas {
                for i in (0..n).filter(|i| !kept.contains(i)) {
                    delta[i] = 0.0;
                }
            }
            let energy: Vec<f64> = deltas.iter().map(|delta| dot(delta, delta) / n as f64).collect();
            let total: f64 = energy.iter().sum();
            let weight = |m: usize| if total < 1e-6 { 1.0 / 3.0 } else { energy[m] / total };
            let merged = |i: usize| {
                let is_positive = deltas.iter().map(|delta| delta[i]).sum::<f64>() >= 0.0;
                let agree = || (0..3).filter(|m| deltas[*m][i] != 0.0 && (deltas[*m][i] > 0.0) == is_positive);
                let divisor: f64 = agree().map(weight).sum();
                tensor.base[i] + agree().map(|m| weight(m) * deltas[m][i]).sum::<f64>() / divisor.max(1e-6)
            };
            Some((0..n).map(merged).collect())
        });
    }
}

#[test]
fn nearswap_takes_what_is_near() {
    for t in [0.002, 0.0, 10.0, -1.0] {
        check(&recipe("nearswap", true, &["{model: a}"], &format!("t: {t}")), 1, |tensor| {
            let pairs = tensor.base.iter().zip(&tensor.models[0]);
            Some(
                pairs
                    .map(|(base, x)| {
                        let weight = (t / (base - x).abs().max(1e-6)).clamp(0.0, 1.0);
                        weight * x + (1.0 - weight) * base
                    })
                    .collect(),
            )
        });
    }
}

#[test]
fn ram_averages_what_is_shared_and_keeps_what_is_not() {
    let models = ["{model: a}", "{model: b}", "{model: c}"];
    for (method, parameters, r) in
        [("ram", "epsilon: 0.003", 0.0), ("ramplus_tl", "epsilon: 0.003, r: 0.5, alpha: 1.5", 0.5)]
    {
        check(&recipe(method, true, &models, parameters), 3, |tensor| {
            let deltas = tensor.deltas();
            let (n, epsilon) = (tensor.base.len(), 0.003);
            let count = |i: usize| deltas.iter().filter(|delta| delta[i].abs() > epsilon).count();
            let scale = |delta: &Vec<f64>| {
                let moved = || (0..n).filter(|i| delta[*i].abs() > epsilon);
                let shared = moved().filter(|i| count(*i) > 1).count() as f64;
                let alone = moved().filter(|i| count(*i) == 1).count() as f64;
                1.0 + r * (shared / alone.max(epsilon)).clamp(0.0, 1.5)
            };
            let scales: Vec<f64> = deltas.iter().map(scale).collect();
            let merged = |i: usize| {
                let terms = deltas.iter().zip(&scales).filter(|(delta, _)| delta[i].abs() > epsilon);
                let sum = |(delta, scale): (&Vec<f64>, &f64)| match count(i) {
                    1 => delta[i] * scale,
                    n => delta[i] / n as f64,
                };
                tensor.base[i] + terms.map(sum).sum::<f64>()
            };
            Some((0..n).map(merged).collect())
        });
    }
}

#[test]
fn arcee_fusion_takes_the_changes_that_matter_most() {
    check(&recipe("arcee_fusion", true, &["{model: a}"], ""), 1, |tensor| {
        let n = tensor.base.len();
        let softmax = |x: &[f64]| {
            let total: f64 = x.iter().map(|x| x.exp()).sum();
            x.iter().map(|x| x.exp() / total + 1e-8).collect::<Vec<f64>>()
        };
        let mut importance = vec![0.0_f32; n];
        for row in tensor.groups(false) {
            let (p, q) = (softmax(&pick(&tensor.models[0], &row)), softmax(&pick(&tensor.base, &row)));
            let divergence: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>().max(0.0);
            for i in row {
                importance[i] = ((tensor.models[0][i] - tensor.base[i]).abs() * divergence) as f32;
            }
        }
        let mut sorted = importance.clone();
        sorted.sort_by(f32::total_cmp);
        let quantile = |quarter: usize| f64::from(sorted[(n - 1) * quarter / 4]);
        let threshold = quantile(2) + 1.5 * (quantile(3) - quantile(1));
        let taken = |i: usize| if f64::from(importance[i]) >= threshold { tensor.models[0][i] } else { tensor.base[i] };
        Some((0..n).map(taken).collect())
    });
}

/// Which of a masked difference was kept, and whether what was kept has the L1 norm of the whole.
#[test]
fn della_keeps_the_larger_of_a_row_more_often() {
    let folder = family();
    let of = |seed: u64| {
        let model = "{model: a, parameters: {weight: 1, density: 0.5, epsilon: 0.4}}";
        merge(&folder, &format!("{}seed: {seed}\n", recipe("della_linear", true, &[model], "rescale: false")), 2)
            .unwrap()
    };
    // How often the r-th of a row of 37, in the order of rising magnitude, was kept.
    let (n_seeds, row) = (60, 37);
    let mut counts = vec![0.0; row];
    let matrix = &Tensor::all(1)[0];
    let delta = &matrix.deltas()[0];
    for seed in 0..n_seeds {
        let got = of(seed);
        for group in matrix.groups(false) {
            let mut order = group.clone();
            order.sort_by(|a, b| delta[*a].abs().total_cmp(&delta[*b].abs()));
            for (rank, i) in order.into_iter().enumerate() {
                let change = f64::from(got["matrix"][i]) - matrix.base[i];
                // What is kept is the model's number, what is not the base's.
                assert!(half(got["matrix"][i]) == half(matrix.base[i] as f32) || (change - delta[i]).abs() < 1e-3);
                counts[rank] += f64::from(u8::from(half(got["matrix"][i]) != half(matrix.base[i] as f32)));
            }
        }
    }
    for (rank, count) in counts.iter().enumerate() {
        let n = f64::from(n_seeds as u32) * 30.0;
        let want = 0.1 + 0.8 * rank as f64 / (row - 1) as f64;
        let deviation = (want * (1.0 - want) / n).sqrt();
        assert!((count / n - want).abs() < 5.0 * deviation + 0.002, "{rank}: {} and {want}", count / n);
    }
    let whole = "{model: a, parameters: {weight: 1, density: 1}}";
    check(&recipe("della", true, &[whole], ""), 1, |tensor| Some(tensor.models[0].clone()));
    let none = "{model: a, parameters: {weight: 1, density: 0}}";
    check(&recipe("della", true, &[none], ""), 1, |tensor| Some(tensor.base.clone()));
    let third = "{model: a, parameters: {weight: 1, density: 0.3, epsilon: 0.1}}";
    let got = merge(&folder, &recipe("della_linear", true, &[third], ""), 1).unwrap();
    let after: f64 =
        got["wide"].iter().zip(&Tensor::all(1)[1].base).map(|(x, base)| (f64::from(*x) - base).abs()).sum();
    let before: f64 = Tensor::all(1)[1].deltas()[0].iter().map(|x| x.abs()).sum();
    assert!((after / before - 1.0).abs() < 0.01, "{after} and {before}");
}

#[test]
fn a_plan_says_what_is_wrong_with_parameters() {
    let folder = family();
    let problems = |recipe: &str| {
        let merge = Merge::plan(Recipe::parse("r.yml", recipe).unwrap(), recipe, folder.path()).unwrap();
        merge.summary().problems.join("; ")
    };
    let a = "{model: a, parameters: {weight: 1}}";
    for (method, base, models, parameters, parts) in [
        ("nuslerp", false, vec![a], "", vec!["merges 2 to 2 models", "got 1"]),
        ("model_stock", true, vec!["{model: a}"], "", vec!["2 to 64", "got 1"]),
        ("sce", false, vec!["{model: a}"], "", vec!["`base_model`"]),
        ("sce", true, vec!["{model: a}"], "select_topk: 1.5", vec!["`select_topk`", "0 to 1", "1.5"]),
        ("sce", true, vec!["{model: a}"], "select_top: 0.5", vec!["`select_top`", "did you mean `select_topk`"]),
        ("karcher", false, vec!["{model: a}"], "max_iter: 2.5", vec!["`max_iter`", "whole", "2.5"]),
        ("nearswap", true, vec!["{model: a}"], "", vec!["`t`"]),
        ("ram", true, vec!["{model: a}"], "epsilon: -1", vec!["`epsilon`", "-1"]),
        ("arcee_fusion", true, vec!["{model: a}"], "t: 1", vec!["`t`", "it has none"]),
        ("della", true, vec!["{model: a, parameters: {weight: 1, density: 0.9}}"], "", vec!["0.9 ± 0.15", "`epsilon`"]),
        ("multislerp", false, vec![a, "{model: b, parameters: {weight: -1}}"], "", vec!["add up to 0"]),
    ] {
        let got = problems(&recipe(method, base, &models, parameters));
        assert!(parts.iter().all(|part| got.contains(part)), "{method}: {got}");
    }
    let text = recipe("modelstock", true, &["{model: a}"], "");
    let error = Merge::plan(Recipe::parse("r.yml", &text).unwrap(), &text, folder.path()).unwrap_err().to_string();
    assert!(error.contains("did you mean `model_stock`"), "{error}");
}

#[test]
fn a_number_that_is_none_is_refused_by_every_method() {
    let folder = family();
    let path = folder.path().join("b/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let (length, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let at = 8 + length + header.info("wide").unwrap().data_offsets.0 + 2 * 12_345;
    bytes[at..at + 2].copy_from_slice(&[0xc0, 0x7f]);
    std::fs::write(&path, bytes).unwrap();
    for method in tracker_merge::methods() {
        let model = "{model: b, parameters: {weight: 1, density: 0.5}}";
        let bare = "{model: b, parameters: {}}";
        let has = |name: &str| method.args.iter().any(|arg| arg.name == name);
        let model = match (has("weight"), has("density")) {
            (true, true) => model.to_owned(),
            (true, false) => model.replace(", density: 0.5", ""),
            _ => bare.to_owned(),
        };
        let others = [model.replace("model: b", "model: a"), model.clone()];
        let models: Vec<&str> = others[2 - method.n_inputs.0.max(if method.n_inputs.1 > 1 { 2 } else { 1 })..]
            .iter()
            .map(String::as_str)
            .collect();
        let t = if has("t") { "t: 0.5" } else { "" };
        let needs_base = method.base == tracker_merge::Base::Required;
        let error = merge(&folder, &recipe(method.name, needs_base, &models, t), 2).unwrap_err();
        let Error::NotFinite { tensor, element, .. } = &error else { panic!("{}: {error}", method.name) };
        assert_eq!((tensor.as_str(), *element), ("wide", 12_345), "{}", method.name);
    }
}
