//! The first stored form of every record. Fields are in stored order; nothing here ever changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Stored, open, seal, unknown_version, unseal};
use crate::artifact::{FileEntry, FilePieces, Manifest, Piece, PieceRef, Place, Version};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{Digest, ExperimentId, NodeId, RunId};
use crate::model::{
    Checkpoint, Claim, Cost, Dataset, Endpoint, Experiment, Figure, Finish, Front, FrontPoint, Objective, Outcome,
    Plan, Problem, Program, Recipe, RecipeWeight, Reward, Run, Sample, Sampling, Selection, Stage, Statement, Status,
    Tally, Verdict, Verifier, Votes,
};
use crate::series::{Block, Chunk, Head, Point, Summary};

const VERSION: u8 = 1;

/// Declares the stored form of a value whose fields are stored as they are, and reads and writes it.
macro_rules! stored {
    ($record:ident for $value:ident { $($field:ident: $type:ty),+ $(,)? } $(without |$self:ident| $anonymous:block)?) => {
        #[derive(Deserialize)]
        struct $record {
            $($field: $type),+
        }

        impl Stored for $value {
            fn encode(&self) -> Result<Vec<u8>> {
                #[derive(Serialize)]
                struct Borrowed<'a> {
                    $($field: &'a $type),+
                }
                seal(VERSION, &Borrowed { $($field: &self.$field),+ })
            }

            fn decode(key: &[u8], record: &[u8]) -> Result<Self> {
                match unseal(key, record)? {
                    (VERSION, payload) => {
                        let $record { $($field),+ } = open(key, payload)?;
                        Ok(Self { $($field),+ })
                    }
                    (version, _) => Err(unknown_version(key, VERSION, version)),
                }
            }

            fn anonymous(&self) -> Self {
                stored!(@anonymous self $(|$self| $anonymous)?)
            }
        }
    };
    (@anonymous $value:ident) => { $value.clone() };
    (@anonymous $value:ident |$self:ident| $anonymous:block) => {{
        let mut $self = $value.clone();
        $anonymous
        $self
    }};
}

stored!(ExperimentV1 for Experiment {
    id: ExperimentId,
    name: String,
    created: Timestamp,
    archived: bool,
    tags: BTreeMap<String, String>,
});

stored!(StageV1 for Stage { name: String, ordinal: u32 });

stored!(ProblemV1 for Problem { name: String, source: String, text: String });

stored!(StatementV1 for Statement {
    name: String,
    header: String,
    text: String,
    canonical: Digest,
    style: String,
    problem: Option<Digest>,
    formalizer: Option<NodeId>,
    compiles: Option<bool>,
    faithful: Option<Votes>,
} without |value| { value.formalizer = value.formalizer.map(NodeId::anonymous); });

stored!(DatasetV1 for Dataset { name: String, purpose: String, n_rows: u64, content: Digest, rows: Option<Digest> });

stored!(CheckpointV1 for Checkpoint { label: String, config: Digest, manifest: Digest, n_params: u64, step: u64 });

stored!(VerifierV1 for Verifier { name: String, version: String, commit: String, binary: Digest, flags: Vec<String> });

stored!(EndpointV1 for Endpoint { url: String, model: String, api: String });

stored!(ProgramV1 for Program { name: String, version: String, settings: String });

stored!(SamplingV1 for Sampling {
    temperature: f64,
    top_p: f64,
    max_tokens: u32,
    stop: Vec<String>,
    template: String,
});

stored!(RecipeV1 for Recipe {
    text: String,
    method: String,
    weights: Vec<RecipeWeight>,
    parents: Vec<NodeId>,
    others: String,
    seed: u64,
});

// The runs of a front are what it says, so they stay in its identity.
stored!(FrontV1 for Front {
    name: String,
    objectives: Vec<Objective>,
    epsilon: Vec<f64>,
    points: Vec<FrontPoint>,
    reference: Vec<f64>,
    hypervolume: Option<f64>,
});

stored!(SampleV1 for Sample {
    subject: NodeId,
    policy: NodeId,
    sampling: Digest,
    seed: u64,
    text: String,
    n_tokens: u32,
    sum_logprob: Option<f64>,
    finish: Finish,
} without |value| {
    value.subject = value.subject.anonymous();
    value.policy = value.policy.anonymous();
});

stored!(VerdictV1 for Verdict {
    outcome: Outcome,
    verifier: Digest,
    statement: Digest,
    message: String,
    axioms: Vec<String>,
    sandboxed: bool,
    cost: Cost,
} without |value| { value.cost = Cost::default(); });

stored!(RewardV1 for Reward { scorer: NodeId, kind: String, values: Vec<f64>, tallies: Vec<Tally> }
without |value| { value.scorer = value.scorer.anonymous(); });

stored!(FigureV1 for Figure {
    name: String,
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
    n: u64,
    unit: String,
    split: String,
});

stored!(ClaimV1 for Claim {
    id: String,
    statement: String,
    holds: bool,
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
    bound: Option<f64>,
});

stored!(SelectionV1 for Selection {
    candidates: Vec<NodeId>,
    scores: Vec<f64>,
    rule: String,
    ties: String,
    chosen: u32,
    scorer: Option<NodeId>,
} without |value| {
    value.candidates = value.candidates.into_iter().map(NodeId::anonymous).collect();
    value.scorer = value.scorer.map(NodeId::anonymous);
});

stored!(RunV1 for Run {
    id: RunId,
    name: String,
    experiment: ExperimentId,
    study: String,
    plan: Plan,
    seed: u64,
    device: String,
    host: String,
    versions: BTreeMap<String, String>,
    status: Status,
    message: String,
    started: Timestamp,
    ended: Option<Timestamp>,
    record_digest: Option<Digest>,
} without |value| {
    value.id = RunId::from_bytes([0; 16]);
    value.ended = None;
});

/// What an edge says beyond its key. An edge that says nothing more is an empty record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EdgeRecord {
    pub(crate) weight: Option<f64>,
    pub(crate) block: String,
}

stored!(EdgeV1 for EdgeRecord { weight: Option<f64>, block: String });

stored!(HeadV1 for Head {
    latest: Point,
    min: Option<f64>,
    max: Option<f64>,
    n_tail: u32,
    next_chunk: u64,
    n_sealed: u64,
});

stored!(ChunkV1 for Chunk { points: Vec<Point> });

stored!(BlockV1 for Block { n_points: u32, steps: Vec<u8>, times: Vec<u8>, values: Vec<u8> });

stored!(SummaryV1 for Summary {
    first: Point,
    last: Point,
    n_points: u64,
    n_nan: u64,
    min: Option<f64>,
    max: Option<f64>,
    sum: f64,
});

stored!(ManifestV1 for Manifest { kind: String, files: Vec<FileEntry> });

stored!(VersionV1 for Version {
    name: String,
    number: u32,
    manifest: Digest,
    created: Timestamp,
    run: Option<RunId>,
});

stored!(FilePiecesV1 for FilePieces { pieces: Vec<PieceRef> });

stored!(PieceV1 for Piece { place: Place });
