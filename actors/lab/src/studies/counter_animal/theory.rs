//! Linear encoders: gradient descent against the closed form, and what it gets right as the background tells more of the class.

use tracker_store::{Claim, Figure, NodeId, Recording};

use super::settings::{CounterAnimal, TheorySettings};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::evaluate::{Estimate, claim_above, over_repeats};
use crate::parts::linear_clip::{Encoders, Latent, distance, latent_of};
use crate::parts::record::put_figure;

type Found = (Claim, Vec<NodeId>);

/// What is measured of a cell, in this order.
const NAMES: [&str; 6] = [
    "distance from the closed form",
    "covariance of both features",
    "drop, class alone",
    "drop, usual caption",
    "drop by formula, class alone",
    "drop by formula, usual caption",
];
const DISTANCE: usize = 0;
const COVARIANCE: usize = 1;
const DROP: usize = 2;
const USUAL_DROP: usize = 3;

/// How near gradient descent has to come.
const NEAR: f64 = 1e-6;

/// A mean μ and an agreement p, over seeds.
struct Cell {
    mu: f64,
    p: f64,
    seeds: Vec<[f64; NAMES.len()]>,
    means: Vec<NodeId>,
}

impl Cell {
    fn of(&self, which: usize) -> impl Iterator<Item = f64> {
        self.seeds.iter().map(move |seed| seed[which])
    }
}

/// Measures every cell.
///
/// # Errors
/// Those of recording.
pub(super) async fn theory(lab: &Lab, study: &CounterAnimal) -> Result<Vec<Found>> {
    let plan = &study.theory;
    let mut cells = Vec::new();
    for mu in plan.mus.iter().filter(|_| !plan.seeds.is_empty()) {
        for p in &plan.ps {
            cells.push(cell(lab, plan, *mu, *p).await?);
        }
    }
    Ok(if cells.is_empty() { vec![] } else { claims(&cells) })
}

fn measure(lab: &Lab, plan: &TheorySettings, latent: &Latent, seed: u32) -> [f64; NAMES.len()] {
    // The same numbers at every p and μ, which are compared seed by seed.
    let mut stream = lab.seeds().stream("theory", seed, 0);
    let pairs = latent.pairs(plan.n_pairs as usize, &mut stream);
    let learnt = pairs.descend(Encoders::new(&mut stream), plan.rho, plan.lr, plan.steps as usize).map();
    // Captions of the class alone, and as they mostly are.
    let prompts = [[latent.mu[0], 0.0], latent.usual()];
    let exact = latent.covariance().map(|row| row.map(|c| c / plan.rho));
    let drop = |[common, counter]: [f64; 2]| common - counter;
    let measured = prompts.map(|prompt| drop(latent.measured(&learnt, prompt, plan.n_test as usize, &mut stream)));
    let formula = prompts.map(|v| drop(latent.accuracy(exact.map(|row| row[0] * v[0] + row[1] * v[1]))));
    let distance = distance(&learnt, &pairs.minimiser(plan.rho));
    [distance, latent_of(&learnt)[0][1] * plan.rho, measured[0], measured[1], formula[0], formula[1]]
}

async fn cell(lab: &Lab, plan: &TheorySettings, mu: f64, p: f64) -> Result<Cell> {
    let name = format!("theory mu {mu} p {p}");
    let stage = lab.stage(&name, plan.seeds.len()).await?;
    let latent = Latent { mu: [mu, mu], sigma: [plan.sigma_inv, plan.sigma_spu], p };
    let mut seeds = Vec::new();
    for (done, seed) in (1..).zip(&plan.seeds) {
        lab.check()?;
        let numbers = measure(lab, plan, &latent, *seed);
        let mut recording = Recording::new();
        for (k, (name, value)) in (0..).zip(NAMES.iter().zip(numbers)) {
            let figure = Figure {
                name: (*name).to_owned(),
                value,
                low: None,
                high: None,
                n: u64::from(plan.n_test),
                unit: String::new(),
                split: format!("seed {seed}"),
            };
            put_figure(lab, &mut recording, stage.row(*seed, k), &figure, &[])?;
        }
        lab.record(recording).await?;
        seeds.push(numbers);
        stage.done(done);
    }
    let of_means = lab.stage(&format!("mean {name}"), NAMES.len()).await?;
    let mut means = Vec::new();
    for (k, name) in (0..).zip(NAMES) {
        let values: Vec<f64> = seeds.iter().map(|seed| seed[k as usize]).collect();
        let mean = over_repeats(&values).ok_or_else(|| Error::Internal("a cell without seeds".into()))?;
        let used: Vec<NodeId> = plan.seeds.iter().map(|seed| NodeId::figure(stage.row(*seed, k))).collect();
        means.push(of_means.figure(k, name, mean, values.len(), &used).await?);
    }
    Ok(Cell { mu, p, seeds, means })
}

fn claims(cells: &[Cell]) -> Vec<Found> {
    let mut found = vec![descends(cells)];
    found.extend(grows(cells));
    found.extend(cells.iter().filter(|cell| cell.p > 0.5).max_by(|a, b| a.p.total_cmp(&b.p)).map(usual));
    found.extend(scales(cells));
    found
}

fn descends(cells: &[Cell]) -> Found {
    let worst = cells.iter().flat_map(|cell| cell.of(DISTANCE)).fold(0.0, f64::max);
    let claim = Claim {
        id: "closed-form".into(),
        statement: "gradient descent on the pairs ends at the empirical cross-covariance over ρ: the greatest relative distance is at most the bound"
            .into(),
        holds: worst <= NEAR,
        value: worst,
        low: None,
        high: None,
        bound: Some(NEAR),
    };
    (claim, cells.iter().map(|cell| cell.means[DISTANCE]).collect())
}

/// Each step in p, at each μ: the one that raises the drop least.
fn grows(cells: &[Cell]) -> Option<Found> {
    let steps = cells.windows(2).filter(|pair| pair[0].mu == pair[1].mu).filter_map(|pair| {
        let gains: Vec<f64> = pair[1].of(DROP).zip(pair[0].of(DROP)).map(|(after, before)| after - before).collect();
        Some((over_repeats(&gains)?, [pair[0].means[DROP], pair[1].means[DROP]]))
    });
    let steps: Vec<(Estimate, [NodeId; 2])> = steps.collect();
    let weakest = steps.iter().map(|(gain, _)| *gain).min_by(|a, b| a.low.total_cmp(&b.low))?;
    let statement = "linear encoders: the more often the background is that of the class, the larger the drop, even of prompts that name the class alone (the step with the least lower end)";
    let nodes = steps.into_iter().flat_map(|(_, nodes)| nodes).collect();
    Some((claim_above("theory-drop-grows", statement, Some(weakest), 0.0), nodes))
}

fn usual(cell: &Cell) -> Found {
    let gains: Vec<f64> = cell.of(USUAL_DROP).zip(cell.of(DROP)).map(|(usual, alone)| usual - alone).collect();
    let statement = format!(
        "linear encoders: prompts that say what captions of the class mostly say drop more than prompts of the class alone, at p = {}, μ = {}",
        cell.p, cell.mu
    );
    let claim = claim_above("theory-prompts", &statement, over_repeats(&gains), 0.0);
    (claim, vec![cell.means[DROP], cell.means[USUAL_DROP]])
}

/// By how much the paper's c = 2μp − 1 is farther from what was learnt than μ²(2p − 1), over all p, at the greatest μ that is not 1.
fn scales(cells: &[Cell]) -> Option<Found> {
    let mu = cells.iter().map(|cell| cell.mu).filter(|mu| *mu != 1.0).max_by(f64::total_cmp)?;
    let of_mu: Vec<&Cell> = cells.iter().filter(|cell| cell.mu == mu).collect();
    let n_seeds = of_mu.first().map_or(0, |cell| cell.seeds.len());
    let gap = |cell: &Cell, seed: usize| {
        let c = cell.seeds[seed][COVARIANCE];
        (c - (2.0 * mu * cell.p - 1.0)).abs() - (c - mu * mu * (2.0 * cell.p - 1.0)).abs()
    };
    let mean = |seed| of_mu.iter().map(|cell| gap(cell, seed)).sum::<f64>() / of_mu.len() as f64;
    let gaps: Vec<f64> = (0..n_seeds).map(mean).collect();
    let statement = format!(
        "at μ = {mu} the covariance of both features is μ²(2p − 1) and not the paper's 2μp − 1: by how much it is nearer to the former, over all p"
    );
    let nodes = of_mu.iter().map(|cell| cell.means[COVARIANCE]).collect();
    Some((claim_above("theory-covariance", &statement, over_repeats(&gaps), 0.0), nodes))
}
