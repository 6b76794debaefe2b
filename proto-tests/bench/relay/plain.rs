//! The plain relay: one thread of one process reads from one connection and writes to another.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use crate::proc::{Reading, Stopwatch};

/// Of sender and sink, which do not count.
const END_BUFFER: usize = 1 << 20;

/// Buffers of the relay, bytes; the better one counts.
pub(crate) const BUFFERS: [usize; 2] = [64 * 1024, 512 * 1024];

/// What a benchmark is when it runs itself.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Role {
    /// The relay
    #[command(hide = true)]
    Relay { from: SocketAddr, to: SocketAddr, buffer: usize },
}

impl Role {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self::Relay { from, to, buffer } = self;
        relay(from, to, buffer)
    }
}

/// Relays until the sender ends, and waits for its own end.
fn relay(from: SocketAddr, to: SocketAddr, buffer: usize) -> anyhow::Result<()> {
    let (mut from, mut to) = (TcpStream::connect(from)?, TcpStream::connect(to)?);
    to.set_nodelay(true)?;
    let mut buffer = vec![0; buffer];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        to.write_all(&buffer[..read])?;
    }
    to.shutdown(Shutdown::Write)?;
    // The parent still has to read this process's CPU time.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Sends so many bytes through a relay; from the first until the sink has the last.
pub(crate) fn measure(bytes: u64, buffer: usize) -> anyhow::Result<Reading> {
    let (sender, sink) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    let mut child = start(&sender, &sink, buffer)?;
    let (sender, sink) = (sender.accept()?.0, sink.accept()?.0);
    let watch = Stopwatch::start(vec![child.id()])?;
    let sending = thread::spawn(move || send(sender, bytes));
    let arrived = receive(sink)?;
    let reading = watch.stop(bytes)?;
    sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    drop(child.stdin.take());
    child.wait()?;
    if arrived != bytes {
        bail!("{arrived} of {bytes} bytes arrived");
    }
    Ok(reading)
}

fn start(sender: &TcpListener, sink: &TcpListener, buffer: usize) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let mut command = Command::new(program);
    command.args(["relay", &sender.local_addr()?.to_string(), &sink.local_addr()?.to_string(), &buffer.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("starting the relay")
}

fn send(mut to: TcpStream, bytes: u64) -> std::io::Result<()> {
    let mut chunk = vec![0; END_BUFFER];
    fastrand::Rng::with_seed(2).fill(&mut chunk);
    let mut left = bytes;
    while left > 0 {
        let now = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&chunk[..now])?;
        left -= now as u64;
    }
    to.shutdown(Shutdown::Write)
}

fn receive(mut from: TcpStream) -> std::io::Result<u64> {
    let mut buffer = vec![0; END_BUFFER];
    let mut arrived = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(arrived),
            read => arrived += read as u64,
        }
    }
}
