//! One opened adapter: pipelines, buffers, streaming, and the watch over faults. Nothing here knows a kernel.
//!
//! Invariants: every call into wgpu that can fail happens inside [`Gpu::guarded`], so a fault is an [`Error::Device`] of
//! the call that caused it; bytes reach the caller only after their own map callback reported success.

use std::any::Any;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::device::{Adapter, Kind};
use crate::error::{Error, Result};

/// How much of one array goes to the device at once: large enough to amortise a submission, small enough that copying
/// in, computing and copying out overlap and no watchdog sees a long dispatch.
pub(crate) const CHUNK_BYTES: usize = 4 << 20;

/// Submissions in flight at once.
const N_SLOTS: usize = 2;
/// Idle slots kept for the next call.
const MAX_IDLE_SLOTS: usize = 8;
/// A submission of one chunk takes milliseconds; after this it is taken for hung.
const DEADLINE: Duration = Duration::from_mins(2);
/// How long to wait for a callback that another thread has taken over before asking the device again.
const HANDOVER: Duration = Duration::from_millis(50);
/// Storage bindings hold whole `vec4<u32>`s.
const BINDING_ALIGN: u64 = 16;

/// Lists the adapters that can run compute shaders, with their handles.
///
/// OpenGL is asked only where nothing better is found: it would list the same hardware twice, and its libraries write to
/// stderr on a machine without a display.
pub(crate) fn adapters() -> Vec<(Adapter, wgpu::Adapter)> {
    for backends in [wgpu::Backends::PRIMARY, wgpu::Backends::SECONDARY] {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        descriptor.backends &= backends;
        let found = adapters_of(descriptor);
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn adapters_of(descriptor: wgpu::InstanceDescriptor) -> Vec<(Adapter, wgpu::Adapter)> {
    let instance = wgpu::Instance::new(descriptor);
    let computes = |adapter: &wgpu::Adapter| {
        let capabilities = adapter.get_downlevel_capabilities();
        capabilities.flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    };
    let handles = resolved(instance.enumerate_adapters(wgpu::Backends::all())).unwrap_or_default();
    let mut listed: Vec<(Adapter, wgpu::Adapter)> = Vec::new();
    for handle in handles.into_iter().filter(computes) {
        let mut adapter = describe(&handle, listed.len());
        adapter.kind_idx =
            listed.iter().filter(|(other, _)| other.kind == adapter.kind && other.backend == adapter.backend).count();
        listed.push((adapter, handle));
    }
    listed
}

fn describe(handle: &wgpu::Adapter, idx: usize) -> Adapter {
    let (info, limits) = (handle.get_info(), handle.limits());
    Adapter {
        idx,
        name: info.name,
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Cpu => Kind::Cpu,
            wgpu::DeviceType::Other => Kind::Other,
        },
        kind_idx: 0,
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
    }
}

/// A compute shader: bindings are the parameters (uniform), the inputs in order (read), the output (read and write).
pub(crate) struct Source {
    /// Names the kernel in errors, and the pipeline in the cache.
    pub(crate) name: &'static str,
    pub(crate) wgsl: &'static str,
    pub(crate) entry: &'static str,
}

/// One dispatch: what goes in, how much comes out. Lengths are multiples of four bytes and not zero.
pub(crate) struct Pass<'a> {
    pub(crate) params: [u32; 8],
    pub(crate) inputs: Vec<Input<'a>>,
    pub(crate) output_bytes: usize,
    pub(crate) n_groups: u32,
}

/// What a kernel reads.
pub(crate) enum Input<'a> {
    /// Bytes that go to the device for this pass.
    Bytes(Cow<'a, [u8]>),
    /// Bytes that lie there.
    Held(&'a Block),
}

impl<'a> From<&'a [u8]> for Input<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Input<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl Input<'_> {
    fn n_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => (bytes.len() as u64).next_multiple_of(BINDING_ALIGN),
            Self::Held(block) => block.0.size(),
        }
    }
}

/// Bytes that stay on a device.
pub(crate) struct Block(wgpu::Buffer);

/// Buffers for one submission in flight, reused from pass to pass.
struct Slot {
    params: wgpu::Buffer,
    inputs: Vec<wgpu::Buffer>,
    output: wgpu::Buffer,
    readback: wgpu::Buffer,
}

/// A submitted pass whose output has not been taken yet.
struct Ticket {
    pass_idx: usize,
    slot: Slot,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    output_bytes: u64,
}

/// An opened adapter.
pub(crate) struct Gpu {
    id: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    max_binding_bytes: u64,
    /// Set once and for good by a lost device or an error outside any scope.
    lost: Arc<Mutex<Option<String>>>,
    pipelines: Mutex<HashMap<&'static str, wgpu::ComputePipeline>>,
    idle: Mutex<Vec<Slot>>,
}

impl Gpu {
    /// Opens `handle` with all the limits it offers.
    ///
    /// # Errors
    /// `Device` if the driver refuses.
    pub(crate) fn open(id: String, handle: &wgpu::Adapter) -> Result<Self> {
        let limits = handle.limits();
        // rounded down, since bindings are padded up
        let max_binding_bytes = limits.max_storage_buffer_binding_size / BINDING_ALIGN * BINDING_ALIGN;
        let descriptor =
            wgpu::DeviceDescriptor { label: Some("tracker"), required_limits: limits, ..Default::default() };
        let opened = panic::catch_unwind(AssertUnwindSafe(|| resolved(handle.request_device(&descriptor))));
        let detail = match opened {
            Ok(Some(Ok((device, queue)))) => {
                let lost = Arc::new(Mutex::new(None));
                watch(&device, &lost);
                return Ok(Self {
                    id,
                    device,
                    queue,
                    max_binding_bytes,
                    lost,
                    pipelines: Mutex::default(),
                    idle: Mutex::default(),
                });
            }
            Ok(Some(Err(error))) => error.to_string(),
            Ok(None) => "the driver layer did not answer at once".to_owned(),
            Err(payload) => panic_text(payload.as_ref()),
        };
        Err(Error::Device { device: id, operation: "open".to_owned(), detail })
    }

    /// Checks that one indivisible piece of work is no larger than `limit_bytes` or what the device can bind.
    ///
    /// Kernels give a limit of their own because a driver may cut long loops short: llvmpipe ends an invocation's loops
    /// after 65,535 iterations in all, silently.
    pub(crate) fn fits(&self, what: &'static str, got_bytes: usize, limit_bytes: usize) -> Result<()> {
        let limit_bytes = self.max_binding_bytes.min(limit_bytes as u64);
        if got_bytes as u64 <= limit_bytes {
            return Ok(());
        }
        Err(Error::TooLarge { device: self.id.clone(), what, limit_bytes, got_bytes: got_bytes as u64 })
    }

    /// Runs `passes` in order, two in flight, and hands the output bytes of each to `take` with its index, in order.
    ///
    /// # Errors
    /// `Device` for whatever the device reports, `TooLarge` for a pass that cannot be bound; else what `take` returns.
    pub(crate) fn run<'a>(
        &self,
        source: &Source,
        passes: impl IntoIterator<Item = Pass<'a>>,
        mut take: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.guarded(source.name, || {
            let pipeline = self.pipeline(source)?;
            let mut in_flight: VecDeque<Ticket> = VecDeque::with_capacity(N_SLOTS);
            for (pass_idx, pass) in passes.into_iter().enumerate() {
                let slot =
                    if in_flight.len() == N_SLOTS { self.collect(source, &mut in_flight, &mut take)? } else { None };
                let slot = self.slot_for(&pass, slot)?;
                in_flight.push_back(self.submit(&pipeline, pass_idx, &pass, slot));
            }
            while let Some(slot) = self.collect(source, &mut in_flight, &mut take)? {
                let mut idle = locked(&self.idle);
                if idle.len() < MAX_IDLE_SLOTS {
                    idle.push(slot);
                }
            }
            Ok(())
        })
    }

    /// Puts `parts` on the device to stay, each at a multiple of `stride` bytes; neither is zero, all are whole words.
    ///
    /// # Errors
    /// `TooLarge` if it cannot be bound, `Device` if there is no room.
    pub(crate) fn hold(&self, operation: &'static str, stride: usize, parts: &[&[u8]]) -> Result<Block> {
        self.fits("array", stride * parts.len(), usize::MAX)?;
        self.guarded(operation, || {
            let size = (stride as u64 * parts.len() as u64).next_multiple_of(BINDING_ALIGN);
            let block = self.buffer(size, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST);
            for (nth, part) in (0..).zip(parts) {
                for (at, chunk) in (nth * stride as u64..).step_by(CHUNK_BYTES).zip(part.chunks(CHUNK_BYTES)) {
                    self.queue.write_buffer(&block, at, chunk);
                }
                // What is written is copied when something is submitted; until then the host holds it twice.
                let submission = self.queue.submit([]);
                let poll = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(DEADLINE) };
                self.device.poll(poll).map_err(|error| self.fault(operation, &error.to_string()))?;
            }
            Ok(Block(block))
        })
    }

    /// The most one binding can hold, in bytes.
    pub(crate) fn max_binding_bytes(&self) -> u64 {
        self.max_binding_bytes
    }

    /// Does `work` under error scopes, and turns every fault of the device in it, panics included, into an error.
    fn guarded<T>(&self, operation: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.still_there(operation)?;
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
            .map(|filter| self.device.push_error_scope(filter));
        let outcome = panic::catch_unwind(AssertUnwindSafe(work));
        let mut caught = None;
        for scope in scopes.into_iter().rev() {
            let popped = resolved(scope.pop());
            let error = match popped {
                Some(error) => error.map(|error| error.to_string()),
                None => Some("an error scope did not close at once".to_owned()),
            };
            caught = caught.or(error);
        }
        if let Some(detail) = caught {
            return Err(self.fault(operation, &detail));
        }
        self.still_there(operation)?;
        outcome.unwrap_or_else(|payload| Err(self.fault(operation, &panic_text(payload.as_ref()))))
    }

    fn still_there(&self, operation: &'static str) -> Result<()> {
        match &*locked(&self.lost) {
            Some(detail) => Err(self.fault(operation, detail)),
            None => Ok(()),
        }
    }

    fn fault(&self, operation: &'static str, detail: &str) -> Error {
        Error::Device {
            device: self.id.clone(),
            operation: operation.to_owned(),
            // the driver layer breaks its messages over several indented lines
            detail: detail.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    fn pipeline(&self, source: &Source) -> Result<wgpu::ComputePipeline> {
        if let Some(pipeline) = locked(&self.pipelines).get(source.name) {
            return Ok(pipeline.clone());
        }
        // A scope of its own: a pipeline that failed must not be cached.
        let pipeline = self.guarded(source.name, || {
            let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(source.name),
                source: wgpu::ShaderSource::Wgsl(source.wgsl.into()),
            });
            Ok(self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(source.name),
                layout: None,
                module: &module,
                entry_point: Some(source.entry),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            }))
        })?;
        locked(&self.pipelines).insert(source.name, pipeline.clone());
        Ok(pipeline)
    }

    /// A slot with room for `pass`: the one given, an idle one or a new one, with buffers replaced that are too small.
    fn slot_for(&self, pass: &Pass<'_>, slot: Option<Slot>) -> Result<Slot> {
        for input in &pass.inputs {
            self.fits("input", input.n_bytes() as usize, usize::MAX)?;
        }
        self.fits("output", pass.output_bytes, usize::MAX)?;
        let mut slot = slot.or_else(|| locked(&self.idle).pop()).unwrap_or_else(|| self.new_slot());
        let input = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let output = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let readback = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        while slot.inputs.len() < pass.inputs.len() {
            slot.inputs.push(self.buffer(BINDING_ALIGN, input));
        }
        for (buffer, given) in slot.inputs.iter_mut().zip(&pass.inputs) {
            if let Input::Bytes(bytes) = given {
                self.grow(buffer, bytes.len(), input);
            }
        }
        self.grow(&mut slot.output, pass.output_bytes, output);
        self.grow(&mut slot.readback, pass.output_bytes, readback);
        Ok(slot)
    }

    fn new_slot(&self) -> Slot {
        Slot {
            params: self
                .buffer(size_of::<[u32; 8]>() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST),
            inputs: Vec::new(),
            output: self.buffer(BINDING_ALIGN, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC),
            readback: self.buffer(BINDING_ALIGN, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
        }
    }

    fn grow(&self, buffer: &mut wgpu::Buffer, bytes: usize, usage: wgpu::BufferUsages) {
        let size = (bytes as u64).next_multiple_of(BINDING_ALIGN);
        if buffer.size() < size {
            *buffer = self.buffer(size, usage);
        }
    }

    fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }

    fn submit(&self, pipeline: &wgpu::ComputePipeline, pass_idx: usize, pass: &Pass<'_>, slot: Slot) -> Ticket {
        self.queue.write_buffer(&slot.params, 0, bytemuck::cast_slice(&pass.params));
        for (buffer, given) in slot.inputs.iter().zip(&pass.inputs) {
            if let Input::Bytes(bytes) = given {
                self.queue.write_buffer(buffer, 0, bytes);
            }
        }
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: slot.params.as_entire_binding() }];
        let inputs = slot.inputs.iter().zip(&pass.inputs).map(|(buffer, input)| match input {
            Input::Bytes(_) => (buffer, input.n_bytes()),
            Input::Held(block) => (&block.0, input.n_bytes()),
        });
        let output = (&slot.output, (pass.output_bytes as u64).next_multiple_of(BINDING_ALIGN));
        for (binding, (buffer, size)) in (1..).zip(inputs.chain([output])) {
            entries.push(wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: wgpu::BufferSize::new(size),
                }),
            });
        }
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let output_bytes = pass.output_bytes as u64;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut compute = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            compute.set_pipeline(pipeline);
            compute.set_bind_group(0, &bind_group, &[]);
            compute.dispatch_workgroups(pass.n_groups, 1, 1);
        }
        encoder.copy_buffer_to_buffer(&slot.output, 0, &slot.readback, 0, output_bytes);
        let submission = self.queue.submit([encoder.finish()]);
        let (sender, mapped) = mpsc::sync_channel(1);
        slot.readback.slice(..output_bytes).map_async(wgpu::MapMode::Read, move |outcome| {
            // The receiver is gone only if the call has already failed; then nobody wants the answer.
            drop(sender.send(outcome));
        });
        Ticket { pass_idx, slot, submission, mapped, output_bytes }
    }

    /// Waits for the oldest pass in flight, hands out its output and returns its slot; none if nothing is in flight.
    fn collect(
        &self,
        source: &Source,
        in_flight: &mut VecDeque<Ticket>,
        take: &mut impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<Option<Slot>> {
        let Some(ticket) = in_flight.pop_front() else {
            return Ok(None);
        };
        self.wait(source.name, &ticket)?;
        {
            let view = ticket
                .slot
                .readback
                .slice(..ticket.output_bytes)
                .get_mapped_range()
                .map_err(|error| self.fault(source.name, &error.to_string()))?;
            take(ticket.pass_idx, &view)?;
        }
        ticket.slot.readback.unmap();
        Ok(Some(ticket.slot))
    }

    fn wait(&self, operation: &'static str, ticket: &Ticket) -> Result<()> {
        let failed = |detail: &str| Err(self.fault(operation, detail));
        for _ in 0..DEADLINE.as_millis() / HANDOVER.as_millis() {
            let poll =
                wgpu::PollType::Wait { submission_index: Some(ticket.submission.clone()), timeout: Some(DEADLINE) };
            if let Err(error) = self.device.poll(poll) {
                return failed(&error.to_string());
            }
            // The callback may belong to another thread's poll, and then arrives a moment later.
            match ticket.mapped.recv_timeout(HANDOVER) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => {
                    return failed(&format!("the output could not be mapped: {error}"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return failed("the output's map request was dropped");
                }
                Err(RecvTimeoutError::Timeout) => self.still_there(operation)?,
            }
        }
        failed("the output was not mapped in time")
    }
}

/// Routes what no error scope sees into `lost`.
fn watch(device: &wgpu::Device, lost: &Arc<Mutex<Option<String>>>) {
    let on_lost = Arc::clone(lost);
    device.set_device_lost_callback(move |reason, message| {
        locked(&on_lost).get_or_insert(format!("device lost ({reason:?}): {message}"));
    });
    let on_error = Arc::clone(lost);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        locked(&on_error).get_or_insert(format!("error outside any operation: {error}"));
    }));
}

/// The guarded value; a panic while it was held leaves nothing half-written in any of ours.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of a future that is ready at once, as wgpu's are outside a browser.
fn resolved<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic in the driver layer: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod faults;
