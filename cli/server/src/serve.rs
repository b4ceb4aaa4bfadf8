//! The server: where it listens, how much it takes at once, and how it stops.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use tracker_store::Store;

use crate::answer::{MAX_BODY_BYTES, answer};
use crate::api::Api;
use crate::error::Error;
use crate::gate::Gate;
use crate::stream::Rooms;

/// Bodies of all requests together, in bytes. One that came compressed and what it was may both be the longest there is: with less room
/// it would be put off for ever.
const MAX_BODIES_BYTES: usize = 2 * MAX_BODY_BYTES;
/// Requests that are answered at once; the next ones are told to come again.
const MAX_REQUESTS: usize = 256;
/// Files that are sent or taken at once.
const MAX_FILES: usize = 16;
/// Connections a worker has at once.
const MAX_CONNECTIONS: usize = 1024;
/// Threads of a worker that wait for the store or a file: more than files, so that those never keep others waiting.
const N_THREADS: usize = MAX_FILES + 8;
/// How long requests that were begun may take when the server stops, in seconds.
const STOP_SECS: u64 = 10;

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen at. Any but this machine's own needs a token.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// What every request must come with, as Bearer or as the password of Basic.
    pub token: Option<String>,
    /// Names under which the server may be called, beside its address; of a server on this machine alone they add to `localhost`.
    pub names: Vec<String>,
    /// Threads that read and answer requests.
    pub workers: usize,
    /// How long a client may keep silent in the middle of a request, or leave an answer unread.
    pub patience: Duration,
    /// Refuses values of params and tags that are too long; they are cut otherwise.
    pub refuse_long: bool,
}

impl Default for Options {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 5000,
            token: None,
            names: Vec::new(),
            workers,
            patience: Duration::from_secs(30),
            refuse_long: false,
        }
    }
}

impl Options {
    fn gate(&self) -> Result<Gate, Error> {
        let token = self.token.clone().filter(|token| !token.is_empty());
        if !self.host.is_loopback() {
            if token.is_none() {
                return Err(Error::TokenMissing { host: self.host.to_string() });
            }
            // Without names any will do: the token is what counts.
            if self.names.is_empty() {
                return Ok(Gate { token, hosts: None });
            }
        }
        let own = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), self.host.to_string()];
        Ok(Gate { token, hosts: Some([self.names.as_slice(), &own].concat()) })
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopper: Stopper,
    thread: JoinHandle<std::io::Result<()>>,
}

/// Stops a server from anywhere.
#[derive(Clone, Debug)]
pub struct Stopper(ServerHandle);

impl Stopper {
    /// Stops the server: no new requests are taken, those that were begun are answered, for some seconds at most. Returns at once.
    pub fn stop(&self) {
        // The command is sent when the future is made; only its end is waited for.
        drop(self.0.stop(true));
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) api: Arc<Api>,
    pub(crate) gate: Gate,
    pub(crate) bodies: Rooms,
    pub(crate) requests: Rooms,
    pub(crate) files: Rooms,
    pub(crate) patience: Duration,
}

impl Shared {
    pub(crate) fn new(store: Store, gate: Gate, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            gate,
            api: Arc::new(Api::new(store, options.refuse_long)?),
            bodies: Rooms::new(MAX_BODIES_BYTES),
            requests: Rooms::new(MAX_REQUESTS),
            files: Rooms::new(MAX_FILES),
            patience: options.patience,
        })
    }
}

impl Server {
    /// Listens, and serves `store` on threads of its own until it is stopped. It is ready when this returns.
    ///
    /// # Errors
    /// `TokenMissing`; `Bind`; `Io`; the store's.
    pub fn bind(store: Store, options: &Options) -> Result<Self, Error> {
        let gate = options.gate()?;
        let address = SocketAddr::new(options.host, options.port);
        let failed = |source| Error::Bind { address: address.to_string(), source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        send_away_who_does_not_read(&listener, options.patience)?;
        let address = listener.local_addr()?;
        let shared = web::Data::new(Shared::new(store, gate, options)?);
        let (started, starts) = std::sync::mpsc::sync_channel(1);
        let (workers, patience) = (options.workers.max(1), options.patience);
        let serve = move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || App::new().app_data(shared.clone()).default_service(web::to(answer));
                let server = HttpServer::new(app)
                    .workers(workers)
                    .worker_max_blocking_threads(N_THREADS)
                    .max_connections(MAX_CONNECTIONS)
                    .client_request_timeout(patience)
                    .keep_alive(Duration::from_secs(75))
                    .shutdown_timeout(STOP_SECS)
                    .disable_signals()
                    .listen(listener)?
                    .run();
                // Who waits for it has gone only if it does not want the server any more.
                drop(started.send(server.handle()));
                server.await
            })
        };
        let thread = std::thread::Builder::new().name("serve".to_owned()).spawn(serve)?;
        if let Ok(handle) = starts.recv() {
            return Ok(Self { address, stopper: Stopper(handle), thread });
        }
        ended(thread)?;
        Err(Error::Io(std::io::Error::other("the server ended before it had begun")))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it was stopped.
    ///
    /// # Errors
    /// `Io` if it failed.
    pub fn wait(self) -> Result<(), Error> {
        ended(self.thread)
    }

    /// Stops it, and waits until those requests are answered that were begun.
    ///
    /// # Errors
    /// `Io` if it failed.
    pub fn stop(self) -> Result<(), Error> {
        self.stopper.stop();
        self.wait()
    }
}

/// Connections end once what was sent has lain unread for so long, or nobody is there to read it. Accepted sockets have it of the one that
/// listens. Where the system has no such limit, a client that stops reading keeps its connection.
fn send_away_who_does_not_read(listener: &TcpListener, patience: Duration) -> std::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(listener).set_tcp_user_timeout(Some(patience))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _none = (listener, patience);
    Ok(())
}

fn ended(thread: JoinHandle<std::io::Result<()>>) -> Result<(), Error> {
    let ended = thread.join().map_err(|_| std::io::Error::other("the server's thread panicked"))?;
    Ok(ended?)
}
