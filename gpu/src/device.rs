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
            Choice::Auto if !may_have_hardware() => Ok(Self::cpu()),
            Choice::Auto => Ok(Self::best_hardware(gpu::adapters(), Self::on_adapter)),
            Choice::Wgpu(idx) => Self::open_adapter(choice, *idx),
        }
    }

    /// The first of `found`, best first, that is hardware and opens; the CPU with the reasons if none does.
    fn best_hardware<H>(mut found: Vec<(Adapter, H)>, open: impl Fn(Adapter, &H) -> Result<Self>) -> Self {
        found.retain(|(adapter, _)| adapter.kind.is_hardware());
        found.sort_by_key(|(adapter, _)| adapter.preference());
        let mut notes = Vec::new();
        for (adapter, handle) in found {
            match open(adapter, &handle) {
                Ok(device) => return Self { notes: notes.into(), ..device },
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
        let kernels = Wgpu(Arc::new(Gpu::open(adapter.id(), handle)?));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(idx: usize, kind: Kind, backend: &str) -> (Adapter, ()) {
        let adapter = Adapter {
            idx,
            name: format!("number {idx}"),
            backend: backend.to_owned(),
            driver: "driver".to_owned(),
            kind,
            kind_idx: 0,
            max_buffer_bytes: 1 << 30,
            max_binding_bytes: 1 << 27,
            max_workgroup_bytes: 1 << 15,
        };
        (adapter, ())
    }

    /// Opens anything but the adapters named, which it refuses.
    fn refusing(refused: &[usize]) -> impl Fn(Adapter, &()) -> Result<Device> {
        move |adapter, ()| {
            if refused.contains(&adapter.idx) {
                return Err(Error::Refused { device: adapter.id(), reason: "it differs".to_owned() });
            }
            Ok(Device { adapter: Some(Arc::new(adapter)), ..Device::cpu() })
        }
    }

    fn machine() -> Vec<(Adapter, ())> {
        vec![
            adapter(0, Kind::Cpu, "vulkan"),
            adapter(1, Kind::Integrated, "vulkan"),
            adapter(2, Kind::Discrete, "gl"),
            adapter(3, Kind::Discrete, "vulkan"),
            adapter(4, Kind::Other, "vulkan"),
        ]
    }

    #[test]
    fn auto_takes_the_best_hardware_that_opens_and_notes_what_it_passed_over() {
        let order = [3, 2, 1];
        for n_refused in 0..order.len() {
            let device = Device::best_hardware(machine(), refusing(&order[..n_refused]));
            assert_eq!(device.adapter().map(|adapter| adapter.idx), Some(order[n_refused]));
            assert_eq!(device.notes().len(), n_refused);
        }
    }

    #[test]
    fn auto_takes_the_cpu_rather_than_software_and_says_why() {
        let device = Device::best_hardware(machine(), refusing(&[1, 2, 3]));
        assert!(device.adapter().is_none());
        assert_eq!(device.notes()[0], "device `wgpu number 3 / vulkan / driver` is refused: it differs");
        let without_hardware = vec![adapter(0, Kind::Cpu, "vulkan"), adapter(1, Kind::Other, "gl")];
        let device = Device::best_hardware(without_hardware, refusing(&[]));
        assert!(device.adapter().is_none() && device.notes().is_empty());
    }
}
