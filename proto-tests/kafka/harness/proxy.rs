//! A TCP proxy in front of a broker's listener, which does to connections what networks do: it refuses them, lets them
//! hang, resets them in the middle of a frame, and slows them down.
//!
//! It knows nothing of Kafka: what it cuts or holds back is bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a thread that waits for the network looks whether its connection shall end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const BUFFER_BYTES: usize = 64 << 10;
/// Where a broker sees those who come through a proxy, so that it can tell them from all others.
pub(crate) const CLIENTS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
/// Pieces a second in which a trickle comes.
const PIECES_PER_S: u64 = 10;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the broker: requests.
    Up,
    /// From the broker to the client: answers.
    Down,
}

/// What happens to the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Everything gets through at once.
    None,
    /// Open connections are reset, and nobody listens for new ones.
    Refuse,
    /// Nothing gets through that way, and nothing says so: the far end looks alive. What was sent meanwhile arrives when
    /// the fault ends, even if the sender has given up by then.
    Hold(Way),
    /// Whenever so many bytes went that way, the connection that carried the last of them is reset.
    ResetAfter(Way, u64),
    /// Everything arrives this much later.
    Delay(Duration),
    /// So many bytes a second on each connection and way.
    Trickle(u64),
}

/// A listening port that leads to another one. Dropping it ends its connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// How often the fault in force did something to somebody.
    disturbed: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Where it listens.
    at: Ipv4Addr,
    upstream: u16,
    fault: Fault,
    /// Bytes until the next reset.
    left: u64,
    over: bool,
    live: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    broker: TcpStream,
    /// It shall end with a reset.
    cut: AtomicBool,
}

impl Proxy {
    /// Listens on `port` for what goes to `upstream`, both on loopback.
    pub(crate) fn start(port: u16, upstream: u16) -> Self {
        let state =
            State { at: Ipv4Addr::LOCALHOST, upstream, fault: Fault::None, left: 0, over: false, live: Vec::new() };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), disturbed: AtomicU64::new(0) });
        let listener =
            listen(Ipv4Addr::LOCALHOST, port).unwrap_or_else(|error| panic!("cannot listen on port {port}: {error}"));
        let own = Arc::clone(&shared);
        std::thread::spawn(move || accept(&own, port, listener));
        Self { port, shared }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Puts a fault into force, in place of the one before.
    pub(crate) fn set(&self, fault: Fault) {
        let mut state = self.shared.state();
        state.fault = fault;
        if let Fault::ResetAfter(_, bytes) = fault {
            state.left = bytes;
        }
        if fault == Fault::Refuse {
            self.shared.cut_all(&mut state);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends all connections and listens at another address of this machine only, as if the broker had moved there.
    pub(crate) fn move_to(&self, at: Ipv4Addr) {
        let mut state = self.shared.state();
        state.at = at;
        self.shared.cut_all(&mut state);
    }

    /// How often faults did something to a connection so far.
    pub(crate) fn disturbed(&self) -> u64 {
        self.shared.disturbed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.over = true;
        self.shared.cut_all(&mut state);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        self.disturbed.fetch_add(1, Ordering::SeqCst);
    }

    fn cut_all(&self, state: &mut State) {
        for connection in state.live.drain(..) {
            connection.cut.store(true, Ordering::SeqCst);
            self.note();
        }
    }

    /// Waits until some of `bytes` may go that way; how many, or nothing where the connection is reset in front of them.
    fn admit(&self, connection: &Connection, way: Way, bytes: usize) -> Option<usize> {
        let mut state = self.state();
        let arrived = Instant::now();
        let mut noted = false;
        loop {
            if connection.cut.load(Ordering::SeqCst) {
                return None;
            }
            let waits = match state.fault {
                Fault::None | Fault::Refuse => return Some(bytes),
                Fault::ResetAfter(held, _) if held != way => return Some(bytes),
                Fault::ResetAfter(_, every) => {
                    if state.left == 0 {
                        state.left = every;
                        connection.cut.store(true, Ordering::SeqCst);
                        self.note();
                        return None;
                    }
                    let some = bytes.min(usize::try_from(state.left).unwrap_or(usize::MAX));
                    state.left -= some as u64;
                    return Some(some);
                }
                Fault::Hold(held) if held != way => return Some(bytes),
                Fault::Hold(_) => LOOK_EVERY,
                Fault::Delay(by) => match by.checked_sub(arrived.elapsed()) {
                    None => return Some(bytes),
                    Some(rest) => rest,
                },
                Fault::Trickle(per_s) => {
                    match Duration::from_millis(1_000 / PIECES_PER_S).checked_sub(arrived.elapsed()) {
                        None => return Some(bytes.min(usize::try_from(per_s / PIECES_PER_S).unwrap_or(usize::MAX))),
                        Some(rest) => rest,
                    }
                }
            };
            if !std::mem::replace(&mut noted, true) {
                self.note();
            }
            state = self.changed.wait_timeout(state, waits.min(LOOK_EVERY)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn listen(at: Ipv4Addr, port: u16) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((at, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(shared: &Arc<Shared>, port: u16, listener: TcpListener) {
    let mut listener = Some(listener);
    loop {
        let (refuse, over, upstream, at) = {
            let state = shared.state();
            (state.fault == Fault::Refuse, state.over, state.upstream, state.at)
        };
        if over {
            return;
        }
        let moved = listener.as_ref().is_some_and(|listener| listener.local_addr().is_ok_and(|now| now.ip() != at));
        if refuse || moved {
            listener = None;
        } else if listener.is_none() {
            listener = listen(at, port).ok();
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((client, _))) => begin(shared, client, upstream),
            _ => std::thread::sleep(LOOK_EVERY / 4),
        }
    }
}

fn connect(upstream: u16) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((CLIENTS, 0)).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, upstream)).into())?;
    Ok(socket.into())
}

/// Connects through and starts both ways. Where the broker does not listen, the client is reset.
fn begin(shared: &Arc<Shared>, client: TcpStream, upstream: u16) {
    let _ = client.set_nonblocking(false);
    let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
    let Ok(broker) = connect(upstream) else { return };
    for stream in [&client, &broker] {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(LOOK_EVERY));
        let _ = stream.set_write_timeout(Some(LOOK_EVERY));
    }
    let connection = Arc::new(Connection { client, broker, cut: AtomicBool::new(false) });
    shared.state().live.push(Arc::clone(&connection));
    for way in [Way::Up, Way::Down] {
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        std::thread::spawn(move || pump(&shared, &connection, way));
    }
}

/// Carries bytes one way until that way ends; the end of one way is told to the other end.
fn pump(shared: &Shared, connection: &Arc<Connection>, way: Way) {
    let (from, to) = match way {
        Way::Up => (&connection.client, &connection.broker),
        Way::Down => (&connection.broker, &connection.client),
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    let outcome = loop {
        let got = match until_ready(connection, || (&*from).read(&mut buffer)) {
            Some(0) => break Some(()),
            None => break None,
            Some(got) => got,
        };
        if carry(shared, connection, way, to, &buffer[..got]).is_none() {
            break None;
        }
    };
    match outcome {
        Some(()) => {
            let _ = to.shutdown(std::net::Shutdown::Write);
            // The client has gone: nothing that still comes down has a reader.
            if way == Way::Up {
                return;
            }
        }
        None => connection.cut.store(true, Ordering::SeqCst),
    }
    // The last owner closes the sockets, and with no time to linger that is a reset.
    shared.state().live.retain(|other| !Arc::ptr_eq(other, connection));
}

fn carry(shared: &Shared, connection: &Connection, way: Way, to: &TcpStream, bytes: &[u8]) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let some = shared.admit(connection, way, rest.len())?;
        let mut piece = rest.get(..some)?;
        while !piece.is_empty() {
            let written = until_ready(connection, || (&*to).write(piece))?;
            piece = piece.get(written..)?;
        }
        rest = rest.get(some..)?;
    }
    Some(())
}

/// Tries until it works, fails, or the connection shall end.
fn until_ready(connection: &Connection, mut act: impl FnMut() -> std::io::Result<usize>) -> Option<usize> {
    loop {
        if connection.cut.load(Ordering::SeqCst) {
            return None;
        }
        match act() {
            Ok(done) => return Some(done),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(_) => return None,
        }
    }
}
