//! Serves a store until its standard input ends: `serve DIR [PORT]`. Says where it listens, in one line.
#![allow(clippy::print_stdout, reason = "the address is what this program says")]

use std::io::Read as _;
use std::path::Path;

use tracker_server::{Options, Server};
use tracker_store::Store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: serve DIR [PORT]")?;
    let port = args.next().map_or(Ok(0), |port| port.parse())?;
    let token = std::env::var("TRACKER_TOKEN").ok();
    let server = Server::bind(Store::create(Path::new(&dir))?, &Options { port, token, ..Options::default() })?;
    println!("http://{}", server.address());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.stop()?;
    Ok(())
}
