//! The command line: one clap tree, from which help, completions and the man page come.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::exec::ExecArgs;
use crate::commands::serve::ServeArgs;
use crate::commands::verify::VerifyArgs;

/// Local-first experiment tracking for post-training research: runs studies, records every proof, reward and
/// checkpoint with its ancestry, and answers where a number came from.
#[derive(Debug, Parser)]
#[command(name = "tracker", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// Folder of data.
    #[arg(long, global = true, env = "TRACKER_STORE", default_value = ".tracker", value_name = "DIR")]
    pub store: PathBuf,
    /// Print JSON: one object for a single answer, one object a line for a list.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a study, or a plan file, and record everything it does.
    Run(RunArgs),
    /// Run a grid of plans, each a run of its own; cells that failed or were never begun are done by `--resume`, by several
    /// processes at once if you start them.
    Sweep(SweepArgs),
    /// Run the stored plan of a run again and compare record digests; exits 1 if they differ.
    Replay {
        /// Run id or unique prefix.
        run: String,
        /// Ask endpoints again, instead of answering from what the run exchanged with them.
        #[arg(long, conflicts_with = "exchanges")]
        call: bool,
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// List the studies, or the keys of one study's plan with their defaults.
    Studies {
        /// A study.
        study: Option<String>,
    },
    /// List runs, newest first.
    Ls {
        /// Only runs that match, such as `study = 'goedel' AND status = 'finished'`.
        filter: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show one run: plan, parameters, figures, claims.
    Show {
        /// Run id, unique prefix, or any other node.
        node: String,
    },
    /// Compare two runs: params, figures, seed, device and records, data; exits 1 if they differ. Another machine or build is told, and
    /// is no difference by itself.
    Diff {
        /// Run id or unique prefix.
        left: String,
        /// Run id or unique prefix.
        right: String,
        /// Compare these alone; several with commas.
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<Aspect>,
    },
    /// Ask the store.
    #[command(subcommand)]
    Query(Query),
    /// Store, fetch and list artifacts.
    #[command(subcommand)]
    Artifact(Artifact),
    /// Merge checkpoints by a recipe (mergekit's YAML, or `blocks:`) into a Hugging Face folder, and record what was made of
    /// what.
    Merge(MergeArgs),
    /// Remove what no artifact names any more, and give its bytes back to the disk.
    Gc {
        /// Say what would be freed, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Leave alone what is younger than this many minutes and not named yet: it may be on its way in.
        #[arg(long, default_value_t = 60, value_name = "MINUTES")]
        grace: u64,
        /// Rewrite packs of which less than this share is needed, in percent; 0 rewrites none.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "PERCENT")]
        rewrite_below: u8,
    },
    /// Check every key, record, index, series, file and piece of the store; exits 1 if something is damaged. Writes nothing, and works
    /// beside processes that write.
    Fsck {
        /// Make good what follows from what can be read, and set aside what cannot be read, in `quarantine/` of the store; what can be
        /// read is never removed. No other process may hold the store. May be stopped at any moment and run again.
        #[arg(long)]
        repair: bool,
    },
    /// Say which artifacts take how much room, and what would be free without each.
    Du {
        /// What to count by.
        #[arg(long, value_enum, default_value = "artifact")]
        by: Grouping,
        /// At most this many, the largest first.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Write a backup of the whole store, beside writers; or check one.
    Backup {
        /// A folder, which may have an earlier backup: what is there already is not written again, and that one stays whole until the
        /// last step. A name that ends in `.tar` is one file; `-` is a tar on stdout, or with `--verify` on stdin.
        target: PathBuf,
        /// Check every byte of the backup or export that is there, and write nothing; exits 1 if anything is damaged.
        #[arg(long)]
        verify: bool,
    },
    /// Make a store of a backup, in the folder of `--store`, which must be empty or not there; every byte is checked.
    Restore {
        /// A backup: its folder, its `.tar`, or `-` for stdin.
        backup: PathBuf,
    },
    /// Write runs to one file, with every run, content and artifact they came from; `tracker import` reads it.
    Export {
        /// Runs, by id or unique prefix.
        #[arg(required = true)]
        runs: Vec<String>,
        /// The file, which must not be there; `-` for stdout.
        #[arg(required = true)]
        file: PathBuf,
        /// Of a run that is a sweep, its cells too.
        #[arg(long)]
        sweep: bool,
    },
    /// Take in the runs of an export: what is there already stays; a run that is there with other contents is refused before anything
    /// is written.
    Import {
        /// The file; `-` for stdin.
        file: PathBuf,
    },
    /// Bring the store to this build's format: a backup first, then batch by batch; one that was killed goes on where it stopped.
    Migrate {
        /// Say what would be done, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Where the backup goes; without it beside the store, `STORE.format-N.backup`.
        #[arg(long, value_name = "FOLDER", conflicts_with = "dry_run")]
        backup: Option<PathBuf>,
        /// Make no backup: it takes as much room as the store.
        #[arg(long, conflicts_with_all = ["dry_run", "backup"])]
        no_backup: bool,
    },
    /// Let another engine keep the store: everything is copied and compared before the new one takes the old one's place. No other
    /// command may have the store open.
    Convert {
        /// The engine.
        #[arg(long, value_enum)]
        engine: Engine,
    },
    /// Compare runs or checkpoints by several objectives: which points no other beats, and files of it.
    Pareto(ParetoArgs),
    /// Write the files of a checkpoint to a folder; one that is stored as a recipe is made, and its digest checked.
    Materialize {
        /// A checkpoint: a digest prefix, `checkpoint:LABEL`, or the name of its artifact.
        checkpoint: String,
        /// The folder to write; must not exist.
        out: PathBuf,
        /// Threads to use; default: all cores. Never changes the bytes.
        #[arg(long)]
        workers: Option<usize>,
    },
    /// Say what a run or a sweep found: claims and the numbers they rest on; or write it as a page with all figures, learning
    /// curves and fronts, each number a link to the rows behind it.
    Report {
        /// Run id or unique prefix.
        run: String,
        /// Write a page that loads nothing from elsewhere; ends in .html.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
    /// Label the steps a run labelled anew, from the counts it stored, and show what changes.
    Relabel(RelabelArgs),
    /// Serve the store over HTTP to clients of MLflow: scripts write into this folder with `MLFLOW_TRACKING_URI=http://127.0.0.1:5000`.
    Serve(ServeArgs),
    /// Run any command as a run: what it logs by MLflow lands here, with its code, packages, machine and output; exits as the command does.
    Exec(ExecArgs),
    /// Check proofs: each line of a file, or again what runs recorded as proved; exits 1 if any is not proved.
    Verify(VerifyArgs),
    /// List the devices work can run on.
    Devices,
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What to merge, and where to.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The recipe. A model in it is a folder, relative to the recipe's own, or else something in the store: a checkpoint
    /// (`checkpoint:LABEL` or a digest prefix) or an artifact (`NAME`, `artifact:NAME`).
    pub recipe: PathBuf,
    /// The folder to write; must not exist. It appears whole, and a killed merge goes on where it stopped. Recipe, parents and
    /// output are then recorded in the store, which is made if there is none, as `tracker run` does: the weights stay in the
    /// folder, and parents in theirs.
    #[arg(required_unless_present_any = ["is_virtual", "dry_run"])]
    pub out: Option<PathBuf>,
    /// Write no weights: compute their digest and record a virtual checkpoint, which `tracker materialize` makes. Its models must
    /// be in the store.
    #[arg(long = "virtual", conflicts_with_all = ["out", "no_record"])]
    pub is_virtual: bool,
    /// Read headers alone, and say everything that stands in the way; exits 1 if something does. Records nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Write the folder and record nothing.
    #[arg(long)]
    pub no_record: bool,
    /// What the checkpoint is called in the store; default: the name of the folder, or of the recipe.
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Threads to use; default: all cores. Never changes the bytes.
    #[arg(long)]
    pub workers: Option<usize>,
}

impl MergeArgs {
    /// Whether the store is told.
    pub fn records(&self) -> bool {
        !self.dry_run && !self.no_record
    }

    /// What the checkpoint is called.
    pub fn label(&self) -> String {
        let name = match &self.out {
            Some(out) => out.file_name(),
            None => self.recipe.file_stem(),
        };
        self.label.clone().unwrap_or_else(|| name.map_or_else(|| "merged".into(), |n| n.to_string_lossy().into_owned()))
    }
}

/// What to compare, and how.
#[derive(Debug, Args)]
pub struct ParetoArgs {
    /// Runs or sweeps, by id or unique prefix; all runs without any. The points of a run are those of the fronts it recorded; a run without
    /// fronts is one point, with the latest value of each metric.
    pub runs: Vec<String>,
    /// A metric or an objective of a front, and which way is better, such as `reward:max`; one to six. Those of the recorded
    /// fronts without any.
    #[arg(long = "objective", value_name = "NAME:max|min")]
    pub objectives: Vec<String>,
    /// Only runs that match, such as `params.lr < 0.1`.
    #[arg(long)]
    pub filter: Option<String>,
    /// Where the hypervolume ends, one number an objective; the worst value of each without it.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    pub reference: Option<Vec<f64>>,
    /// Thin the front: of points nearer than this in every objective one is kept; one number an objective.
    #[arg(long, value_delimiter = ',')]
    pub epsilon: Option<Vec<f64>>,
    /// Write the points to a file ending in .csv, .json, .parquet, .svg, .png or .html; may be given again.
    #[arg(long = "export", value_name = "FILE")]
    pub exports: Vec<PathBuf>,
    /// List all points, and not only those on the front.
    #[arg(long)]
    pub all: bool,
}

/// Which labels to make, and of what.
#[derive(Debug, Args)]
pub struct RelabelArgs {
    /// The run whose counts are used: id or unique prefix. It stays as it is; new labels are a run of their own.
    pub run: String,
    /// Entropy-regularised labels at this inverse temperature: soft at 0, `inf` is hard; may be negative.
    #[arg(long, allow_negative_numbers = true, required_unless_present = "estimator")]
    pub eta: Option<f64>,
    /// `hard`, `soft` or `er:ETA`, instead of `--eta`.
    #[arg(long, conflicts_with = "eta")]
    pub estimator: Option<String>,
    /// Which of several label sets of the run to compare with: an estimator such as `soft`, or its definition
    /// (`program:DIGEST`).
    #[arg(long, value_name = "LABELS")]
    pub from: Option<String>,
    /// Show what would change, and record nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// How to run a study.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A study (see `tracker studies`) or a plan file ending in `.toml`; not needed with `--resume`.
    #[arg(required_unless_present = "resume")]
    pub study: Option<String>,
    /// Set a key of the plan; may be given again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Seed of all random work.
    #[arg(long)]
    pub seed: Option<u64>,
    /// A name for the run.
    #[arg(long)]
    pub name: Option<String>,
    /// Start from the plan that ends in seconds.
    #[arg(long)]
    pub smoke: bool,
    /// Continue a killed or interrupted run from what it recorded.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["study", "sets", "seed", "name", "smoke"])]
    pub resume: Option<String>,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Which grid to run.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// A key of the plan, or `seed`, and the values it takes; given again, every combination is run.
    #[arg(long, value_name = "KEY=A,B,C", required_unless_present = "resume", conflicts_with = "resume")]
    pub grid: Vec<String>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// A table by two axes.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Of `figures`, `claims` or `runs`.
    pub of: String,
    /// Only what matches, such as `name = 'accuracy' AND stage = 'test'`: one number of a run in each place.
    pub filter: Option<String>,
    /// The field down, such as `params.reward.alpha`.
    #[arg(long, value_name = "FIELD")]
    pub rows: String,
    /// The field across, such as `run.seed` or `stage`.
    #[arg(long, value_name = "FIELD")]
    pub columns: String,
    /// The number to show, such as `metrics.loss`; `value` of figures and claims without it.
    #[arg(long, value_name = "FIELD")]
    pub value: Option<String>,
    /// Only of this run, or of this sweep's.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

impl TableArgs {
    /// What rows it is made of.
    pub fn listing(&self) -> Listing {
        Listing { filter: self.filter.clone(), run: self.run.clone(), ..Listing::default() }
    }
}

/// What a run may use of this machine. None of it changes results on the CPU device.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// Where to compute: `auto`, `cpu`, `wgpu` or `wgpu:N` (see `tracker devices`).
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Threads to use; default: all cores.
    #[arg(long)]
    pub workers: Option<usize>,
    /// Answer from recorded exchanges (`tracker artifact get STUDY/exchanges`) instead of calling endpoints.
    #[arg(long, value_name = "FILE")]
    pub exchanges: Option<PathBuf>,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Query {
    /// Runs.
    Runs {
        #[command(flatten)]
        listing: Listing,
        /// Only runs with the seed and the params of this one.
        #[arg(long, value_name = "RUN")]
        like: Option<String>,
        /// But for these params (or `seed`), which are shown; may be given again.
        #[arg(long = "but", value_name = "KEY", requires = "like")]
        but: Vec<String>,
        /// Runs that clients of MLflow deleted, or whose experiment they deleted; others do not see these.
        #[arg(long, conflicts_with = "like")]
        deleted: bool,
    },
    /// What each stage of a run cost: samples, their tokens, seconds of wall clock and of processors.
    Stages {
        /// Run id or unique prefix.
        run: String,
    },
    /// Samples: what policies wrote.
    Samples(Listing),
    /// Proofs: verdicts of verifiers on samples.
    Proofs(Listing),
    /// Rewards: scores of samples.
    Rewards(RewardArgs),
    /// Selections: which of several samples was chosen, and by what rule.
    Selections(Listing),
    /// Figures: numbers that were measured.
    Figures(Listing),
    /// Problems: what was asked.
    Problems(Listing),
    /// Statements: what is to be proved, and prompts with their images.
    Statements(Listing),
    /// Datasets.
    Datasets(Listing),
    /// Programs: definitions of labels, graders, maps, ensembles.
    Programs(Listing),
    /// Checkpoints of models.
    Checkpoints(Listing),
    /// Fronts: which points no other beats.
    Fronts(Listing),
    /// Recipes of merges.
    Recipes(Listing),
    /// Claims that studies tested.
    Claims(Listing),
    /// Figures, claims or metrics of runs by two axes, with intervals.
    Table(TableArgs),
    /// One metric of one run, as points ordered by step, time and value.
    Metrics {
        /// Run id or unique prefix.
        run: String,
        /// The metric; without it, the names of all.
        key: Option<String>,
        /// At most this many points, as minimum, maximum and mean of equal stretches of the series.
        #[arg(long)]
        points: Option<usize>,
        /// Another metric, as `KEY` or `RUN:KEY`: the mean of the first less the second over equal steps, which are drawn anew
        /// in pairs for a 95 % interval.
        #[arg(long, value_name = "KEY", requires = "key", conflicts_with = "points")]
        less: Option<String>,
    },
    /// Where something came from (`--up`), or what depends on it (`--down`).
    Lineage {
        /// Run id, unique id or digest prefix, `kind:name`, or `RUN/stage/item/k`.
        node: String,
        /// Towards ancestors: the default.
        #[arg(long, conflicts_with = "down")]
        up: bool,
        /// Towards descendants.
        #[arg(long)]
        down: bool,
        /// How many steps to walk.
        #[arg(long, default_value_t = 32)]
        depth: usize,
        /// Show only nodes of this kind (still walking through the others); may be given again.
        #[arg(long = "kind", value_name = "KIND")]
        kinds: Vec<String>,
        /// Stop after this many nodes.
        #[arg(long, default_value_t = 10_000)]
        limit: usize,
        /// How to print it; `--json` is `--format json`.
        #[arg(long, value_enum, default_value = "tree")]
        format: GraphFormat,
    },
}

/// A filtered list.
#[derive(Clone, Debug, Default, Args)]
pub struct Listing {
    /// Only what matches, such as `outcome = 'proved' AND n_tokens < 40`.
    pub filter: Option<String>,
    /// Column to order by, with `ASC` or `DESC`, such as `metrics.loss ASC`; of groups, `"mean(value)" DESC`.
    #[arg(long)]
    pub order_by: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// Only rows of this run, or of the runs of this sweep.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Only what this node came from; may be given again.
    #[arg(long, value_name = "NODE")]
    pub ancestors_of: Vec<String>,
    /// Only what came from this node; may be given again.
    #[arg(long, value_name = "NODE")]
    pub descendants_of: Vec<String>,
    /// Only these columns, such as `item, winner.text, params.seed`.
    #[arg(long, value_name = "FIELDS", conflicts_with = "group_by")]
    pub columns: Option<String>,
    /// One line for all rows that agree in these fields, such as `stage, scorer.label`; all rows are one for an empty text.
    #[arg(long, value_name = "FIELDS")]
    pub group_by: Option<String>,
    /// What to say of each group: count; distinct, sum, mean, min or max of a field, such as `count, mean(value)`.
    #[arg(long, value_name = "SUMMARIES", requires = "group_by", default_value = "count")]
    pub show: String,
    /// Only groups that match, such as `"distinct(winner)" > 1`.
    #[arg(long, value_name = "FILTER", requires = "group_by")]
    pub having: Option<String>,
}

/// A filtered list of rewards.
#[derive(Debug, Args)]
pub struct RewardArgs {
    #[command(flatten)]
    pub listing: Listing,
    /// Only those this gave: a reward model, an endpoint, a definition of labels; `checkpoint:LABEL` or a digest prefix.
    #[arg(long, value_name = "NODE")]
    pub model: Option<String>,
    /// Only of this kind: `step`, `outcome`, the name of an attribute.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only of answers to this prompt: a statement or a problem.
    #[arg(long, value_name = "NODE")]
    pub subject: Option<String>,
    /// Only of what this policy wrote.
    #[arg(long, value_name = "NODE")]
    pub policy: Option<String>,
}

/// How a graph is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Indented text.
    Tree,
    /// One JSON object.
    Json,
    /// Graphviz.
    Dot,
    /// Mermaid flowchart.
    Mermaid,
}

/// What runs are compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Aspect {
    /// Params of the plan.
    Param,
    /// Values of figures.
    Figure,
    /// Seed, device, record digest.
    Run,
    /// Versions, the program, the host.
    Environment,
    /// Datasets, by what is in them.
    Data,
}

impl Aspect {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Param => "param",
            Self::Figure => "figure",
            Self::Run => "run",
            Self::Environment => "environment",
            Self::Data => "data",
        }
    }
}

/// What can keep a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// One file and a journal: the default.
    Redb,
    /// A log of pages: quick to write, larger on disk.
    Sled,
    /// Sorted runs, compressed: smallest on disk; in builds with the feature `rocksdb`.
    Rocksdb,
}

impl From<Engine> for tracker_store::EngineKind {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Redb => Self::Redb,
            Engine::Sled => Self::Sled,
            Engine::Rocksdb => Self::Rocksdb,
        }
    }
}

/// What room is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Grouping {
    /// The name: a family of checkpoints.
    Artifact,
    /// The version.
    Version,
    /// The run that put it.
    Run,
}

/// What can be done with artifacts.
#[derive(Debug, Subcommand)]
pub enum Artifact {
    /// Store a file or folder as the next version of NAME; identical content makes no new version.
    Put {
        /// Name of the artifact.
        name: String,
        /// File or folder.
        path: PathBuf,
        /// Aliases to move to this version.
        #[arg(long = "alias")]
        aliases: Vec<String>,
        /// A version with weights these were made from: tensors are stored as differences where that is smaller. The last
        /// version of NAME without it.
        #[arg(long, value_name = "NAME")]
        based_on: Option<String>,
    },
    /// Write a version out, verified.
    Get {
        /// `NAME`, `NAME:ALIAS`, `NAME:vN`, or a checkpoint.
        name: String,
        /// Where to; must not exist.
        out: PathBuf,
    },
    /// Remove a version, or an alias; `tracker gc` frees the bytes.
    Rm {
        /// `NAME:vN`, or `NAME:ALIAS` for the alias alone.
        name: String,
        /// Even if a front, or what its points came from, needs it.
        #[arg(long)]
        force: bool,
    },
    /// List artifacts, or the versions of one.
    Ls {
        /// Name of the artifact.
        name: Option<String>,
    },
}
