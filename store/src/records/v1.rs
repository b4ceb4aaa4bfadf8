//! The first stored form of every record. Fields are in stored order; nothing here ever changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Stored, open, seal, unknown_version, unseal};
use crate::artifact::{FileEntry, FilePieces, LooseFile, Manifest, Piece, PieceRef, Place, Version};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{Digest, ExperimentId, NodeId, RunId};
use crate::model::{
    Assessment, AssessmentKind, Checkpoint, Claim, Cost, Dataset, Endpoint, Figure, Finish, Front, FrontPoint,
    LoggedModel, Measured, ModelState, ModelVersion, Objective, Outcome, Plan, Problem, Program, Recipe, RecipeWeight,
    RegisteredModel, Reward, RunInput, Sample, Sampling, Selection, Span, Stage, Statement, Status, Tally, Trace,
    Verdict, Verifier, Votes,
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

/// The first form of a run; [`super::v2`] has the second.
#[derive(Serialize, Deserialize)]
pub(super) struct RunV1 {
    pub(super) id: RunId,
    pub(super) name: String,
    pub(super) experiment: ExperimentId,
    pub(super) study: String,
    pub(super) plan: Plan,
    pub(super) seed: u64,
    pub(super) device: String,
    pub(super) host: String,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) status: Status,
    pub(super) message: String,
    pub(super) started: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) record_digest: Option<Digest>,
}

/// The first form of an experiment; [`super::v2`] has the second.
#[derive(Serialize, Deserialize)]
pub(super) struct ExperimentV1 {
    pub(super) id: ExperimentId,
    pub(super) name: String,
    pub(super) created: Timestamp,
    pub(super) archived: bool,
    pub(super) tags: BTreeMap<String, String>,
}

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

stored!(RunInputV1 for RunInput {
    name: String,
    digest: String,
    source_type: String,
    source: String,
    schema: String,
    profile: String,
    tags: BTreeMap<String, String>,
});

stored!(LooseFileV1 for LooseFile { n_bytes: u64, digest: Digest, modified: Timestamp });

stored!(LoggedModelV1 for LoggedModel {
    id: String,
    experiment: ExperimentId,
    name: String,
    model_type: String,
    state: ModelState,
    run: Option<RunId>,
    created: Timestamp,
    updated: Timestamp,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    deleted: Option<Timestamp>,
    manifest: Option<Digest>,
    takers: Vec<RunId>,
});

stored!(MeasuredV1 for Measured { dataset_name: String, dataset_digest: String });

stored!(RegisteredModelV1 for RegisteredModel {
    name: String,
    created: Timestamp,
    updated: Timestamp,
    description: String,
    tags: BTreeMap<String, String>,
    aliases: BTreeMap<String, u32>,
    next: u32,
});

stored!(ModelVersionV1 for ModelVersion {
    name: String,
    number: u32,
    created: Timestamp,
    updated: Timestamp,
    description: String,
    stage: String,
    source: String,
    run: Option<RunId>,
    run_link: String,
    model: String,
    tags: BTreeMap<String, String>,
    manifest: Option<Digest>,
});

stored!(TraceV1 for Trace {
    id: String,
    experiment: ExperimentId,
    requested: Timestamp,
    duration_millis: Option<i64>,
    state: String,
    request: String,
    response: String,
    client_id: String,
    metadata: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
});

stored!(SpanV1 for Span { start_nanos: u64, otlp: Vec<u8> });

stored!(AssessmentV1 for Assessment {
    id: String,
    name: String,
    source_type: String,
    source_id: String,
    created: Timestamp,
    updated: Timestamp,
    kind: AssessmentKind,
    value: String,
    rationale: String,
    span: String,
    metadata: BTreeMap<String, String>,
    overrides: String,
    is_valid: bool,
});
