//! Which device: naming one, listing what is there, opening it.
//!
//! Invariants: [`Device::cpu`] always opens; an opened adapter has passed the self-test; `auto` never picks a software
//! adapter and says in [`Device::notes`] what it passed over.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::{self, Gpu};
use crate::kernels::{Cpu, Kernels, Wgpu};
use crate::self_test;

/// A device as asked for: `auto`, `cpu`, `wgpu` or `wgpu:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Choice {
    /// The best real graphics processor that passes the self-test, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The adapter with this [`Adapter::idx`]; without a number the best one, software adapters included.
    Wgpu(Option<usize>),
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::Choice { got: text.to_owned() };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu(None)),
            _ => {
                let digits = text.strip_prefix("wgpu:").ok_or_else(unknown)?;
                if !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(unknown());
                }
                digits.parse().map(|idx| Self::Wgpu(Some(idx))).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(idx)) => write!(f, "wgpu:{idx}"),
        }
    }
}

impl TryFrom<String> for Choice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Choice> for String {
    fn from(choice: Choice) -> Self {
        choice.to_string()
    }
}

/// What sort of machine stands behind an adapter, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A graphics card with memory of its own.
    Discrete,
    /// A graphics processor that shares the host's memory.
    Integrated,
    /// A graphics processor handed into a virtual machine.
    Virtual,
    /// What the driver does not classify.
    Other,
    /// Software rendering on the CPU.
    Cpu,
}

impl Kind {
    /// Whether this is graphics hardware, as far as the driver tells.
    #[must_use]
    pub fn is_hardware(self) -> bool {
        matches!(self, Self::Discrete | Self::Integrated | Self::Virtual)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Cpu => "cpu",
        })
    }
}

/// A graphics adapter of this machine, as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// The `N` of `wgpu:N`.
    pub idx: usize,
    /// The product's name.
    pub name: String,
    /// The interface it is reached through: `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// The driver's name and version.
    pub driver: String,
    /// What sort of machine it is.
    pub kind: Kind,
    /// Its position among the adapters of the same backend and kind, which is how burn names devices.
    pub kind_idx: usize,
    /// The largest buffer.
    pub max_buffer_bytes: u64,
    /// The largest part of a buffer a kernel can see at once.
    pub max_binding_bytes: u64,
    /// The largest memory shared by a workgroup.
    pub max_workgroup_bytes: u32,
}

impl Adapter {
    /// What to record with a run: name, backend and driver. No index, since that depends on what else is plugged in.
    #[must_use]
    pub fn id(&self) -> String {
        format!("wgpu {} / {} / {}", self.name, self.backend, self.driver)
    }

    /// The order in which `auto` and `wgpu` try adapters: by kind, native interfaces before OpenGL, then as listed.
    fn preference(&self) -> (Kind, bool, usize) {
        (self.kind, self.backend == "gl", self.idx)
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wgpu:{} {} ({}, {})", self.idx, self.name, self.kind, self.backend)
    }
}

/// Lists the graphics adapters of this machine, in the order of `wgpu:N`; empty where there is no driver.
///
/// The variables `WGPU_BACKEND` (such as `vulkan,gl`) and `VK_DRIVER_FILES` narrow the list.
#[must_use]
pub fn devices() -> Vec<Adapter> {
    gpu::adapters().into_iter().map(|(adapter, _)| adapter).collect()
}

/// Whether this machine can have graphics hardware at all. Loading the graphics libraries takes tens of milliseconds and
/// they write to stderr where there is no display, which every command on a plain server would pay for nothing.
fn may_have_hardware() -> bool {
    /// What the kernel drivers of Linux put there: DRM, NVIDIA without DRM, WSL, Mali, Adreno, Tegra.
    const NODES: [&str; 6] =
        ["/dev/dri", "/dev/nvidiactl", "/dev/dxg", "/dev/mali0", "/dev/kgsl-3d0", "/dev/nvhost-ctrl-gpu"];
    !cfg!(target_os = "linux") || NODES.iter().any(|node| Path::new(node).exists())
}

/// An opened device. Cheap to clone; may be used from several threads at once.
#[derive(Clone)]
pub struct Device {
    id: Arc<str>,
    adapter: Option<Arc<Adapter>>,
    notes: Arc<[String]>,
    kernels: Arc<dyn Kernels>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Device {
    /// Opens the CPU, which cannot fail.
    #[must_use]
    pub fn cpu() -> Self {
        Self { id: "cpu".into(), adapter: None, notes: Arc::new([]), kernels: Arc::new(Cpu) }
    }

    /// Opens the device asked for, and tests its arithmetic.
    ///
    /// # Errors
    /// `NotFound` if the adapter asked for is not there (the message lists those that are); `Refused` if it fails the
    /// self-test; `Device` if the driver fails. `auto` meets none of these: it takes the CPU and keeps the reasons in
    /// [`Device::notes`].
    pub fn open(choice: &Choice) -> Result<Self> {
        match choice {
            Choice::Cpu => Ok(Self::cpu()),
            Choice::Auto => Ok(Self::best_hardware()),
            Choice::Wgpu(idx) => Self::open_adapter(choice, *idx),
        }
    }

    fn best_hardware() -> Self {
        if !may_have_hardware() {
            return Self::cpu();
        }
        let mut found = gpu::adapters();
        found.retain(|(adapter, _)| adapter.kind.is_hardware());
        found.sort_by_key(|(adapter, _)| adapter.preference());
        let mut notes = Vec::new();
        for (adapter, handle) in found {
            match Self::on_adapter(adapter, &handle) {
                Ok(device) => {
                    return Self { notes: notes.into(), ..device };
                }
                Err(error) => notes.push(error.to_string()),
            }
        }
        Self { notes: notes.into(), ..Self::cpu() }
    }

    fn open_adapter(choice: &Choice, idx: Option<usize>) -> Result<Self> {
        let mut found = gpu::adapters();
        let listed = if found.is_empty() {
            "none (no graphics driver was found)".to_owned()
        } else {
            let names: Vec<String> = found.iter().map(|(adapter, _)| format!("`{adapter}`")).collect();
            names.join(", ")
        };
        found.sort_by_key(|(adapter, _)| adapter.preference());
        let (adapter, handle) = found
            .into_iter()
            .find(|(adapter, _)| idx.is_none_or(|idx| adapter.idx == idx))
            .ok_or_else(|| Error::NotFound { wanted: choice.to_string(), found: listed })?;
        Self::on_adapter(adapter, &handle)
    }

    fn on_adapter(adapter: Adapter, handle: &wgpu::Adapter) -> Result<Self> {
        let kernels = Wgpu(Gpu::open(adapter.id(), handle)?);
        self_test::bit_equal(&kernels).map_err(|error| match error {
            Error::Device { .. } => error,
            other => Error::Refused { device: adapter.id(), reason: other.to_string() },
        })?;
        Ok(Self {
            id: adapter.id().into(),
            adapter: Some(Arc::new(adapter)),
            notes: Arc::new([]),
            kernels: Arc::new(kernels),
        })
    }

    /// What to record with a run: `cpu`, or the adapter's name, backend and driver.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The adapter behind this device; none for the CPU.
    #[must_use]
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_deref()
    }

    /// Why `auto` passed over adapters it preferred, one sentence each; empty otherwise.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The operations, on this device.
    #[must_use]
    pub fn kernels(&self) -> &dyn Kernels {
        &*self.kernels
    }
}
