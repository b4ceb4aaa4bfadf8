//! Lineage of depth 10 over a million edges. Bar: 20 ms.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use std::collections::BTreeSet;

use measure::{Bench, checkpoint, median_millis, once, peak_rss_mb};
use tracker_store::{
    Dataset, Digest, Durability, Edge, Figure, Kind, NodeId, Recording, Relation, Result, Slot, Store, Toward, Walk,
};

const N_ROUNDS: u32 = 5;
const N_ITEMS: u32 = 5_000;
const N_SAMPLES: u32 = 14;

/// Rounds of expert iteration: each policy proves, what it proved is the next dataset, which trains the next policy.
fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("tracker-lineage-{}", std::process::id()));
    let result = bench(&dir);
    drop(std::fs::remove_dir_all(&dir));
    result
}

fn bench(dir: &std::path::Path) -> Result<()> {
    let mut bench = Bench::new(Store::create(dir)?, N_ITEMS)?;
    let n_edges = once("building", || rounds(&mut bench))?;
    println!("{n_edges} edges");
    let proof = NodeId::verdict(bench.row(N_ROUNDS * N_ITEMS - 1, 0), Slot::of(&bench.verifier));
    for (what, limit) in [("depth 10 up from a proof, first 2,000 nodes", 2_000), ("the same, 10,000 nodes", 10_000)] {
        let walk = Walk { depth: 10, limit, ..Walk::new(Toward::Ancestors) };
        let graph = median_millis(what, || bench.store.walk(proof, &walk))?;
        println!("  {} nodes, {} edges, truncated: {}", graph.nodes.len(), graph.edges.len(), graph.truncated);
    }
    let walk =
        Walk { depth: 10, kinds: BTreeSet::from([Kind::Checkpoint, Kind::Figure]), ..Walk::new(Toward::Descendants) };
    let graph = median_millis("depth 10 down from a first proof to checkpoints and figures", || {
        bench.store.walk(NodeId::verdict(bench.row(0, 0), Slot::of(&bench.verifier)), &walk)
    })?;
    println!("  {} nodes, {} edges, truncated: {}", graph.nodes.len(), graph.edges.len(), graph.truncated);
    println!("peak {:.0} MB", peak_rss_mb());
    Ok(())
}

fn rounds(bench: &mut Bench) -> Result<u64> {
    let mut n_edges = 0;
    for round in 0..N_ROUNDS {
        let mut proofs = Vec::new();
        for start in (0..N_ITEMS).step_by(500) {
            let mut recording = Recording::new();
            for item in (start..start + 500).map(|item| round * N_ITEMS + item) {
                for k in 0..N_SAMPLES {
                    let row = bench.row(item, k);
                    recording.put_sample(row, &bench.sample(item, k))?;
                    let proof = recording.put_verdict(row, &bench.verdict(k))?;
                    // Three edges that are keys of their own: subject, policy, verifier.
                    n_edges += 3;
                    if k == 0 {
                        proofs.push(proof);
                    }
                }
            }
            bench.store.commit(&recording, Durability::Os)?;
        }
        n_edges += next_policy(bench, round, &proofs)?;
    }
    Ok(n_edges)
}

/// The dataset of a round's proofs and the policy that is trained on it.
fn next_policy(bench: &mut Bench, round: u32, proofs: &[NodeId]) -> Result<u64> {
    let mut recording = Recording::new();
    let data = Dataset {
        name: format!("round {round}"),
        purpose: "train".to_owned(),
        n_rows: proofs.len() as u64,
        content: Digest::of(&round.to_be_bytes()),
        rows: None,
    };
    let dataset = recording.put(bench.run, &data)?;
    for (order, proof) in proofs.iter().enumerate() {
        recording.put_edge(bench.run, &Edge::new(dataset, Relation::Includes, *proof).at(order as u32))?;
    }
    let policy = recording.put(bench.run, &checkpoint(u64::from(round) + 1))?;
    recording.put_edge(bench.run, &Edge::new(policy, Relation::TrainedOn, dataset))?;
    let figure = Figure {
        name: "pass@16".to_owned(),
        value: 0.5,
        low: None,
        high: None,
        n: 244,
        unit: String::new(),
        split: "benchmark".to_owned(),
    };
    let figure = recording.put_figure(bench.row(round, 0), &figure)?;
    recording.put_edge(bench.run, &Edge::new(figure, Relation::About, policy))?;
    bench.store.commit(&recording, Durability::Os)?;
    bench.policy = policy;
    Ok(proofs.len() as u64 + 2)
}
