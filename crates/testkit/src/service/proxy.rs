//! A TCP proxy that a test can stall and cut, for faults that a server would not play by itself.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Passes on what comes, until it is told otherwise. Ends with the test's process at the latest; connections end when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    open: Vec<TcpStream>,
    accepted: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Stall,
    /// Held up on the way to the target alone.
    StallThere,
    /// Held up on the way back alone.
    StallBack,
    Cut,
}

impl Proxy {
    /// Listens on a free port, and passes everything on to `target`.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = State { mode: Mode::Pass, open: Vec::new(), accepted: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                accepting.accept(stream, target);
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds everything up in both directions; connections stay open, and new ones are accepted.
    pub fn stall(&self) {
        self.turn(Mode::Stall);
    }

    /// Holds up what is sent to the target; its answers go through, and connections stay open.
    pub fn stall_there(&self) {
        self.turn(Mode::StallThere);
    }

    /// Holds up what the target answers; what is sent to it goes through, and connections stay open.
    pub fn stall_back(&self) {
        self.turn(Mode::StallBack);
    }

    /// Ends all connections, and new ones at once.
    pub fn cut(&self) {
        self.turn(Mode::Cut);
    }

    /// Passes everything on again, what was held up first.
    pub fn pass(&self) {
        self.turn(Mode::Pass);
    }

    /// How many connections have been made so far.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    fn turn(&self, mode: Mode) {
        let mut state = self.shared.lock();
        state.mode = mode;
        if mode == Mode::Cut {
            state.open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, near: TcpStream, target: SocketAddr) {
        let mut state = self.lock();
        state.accepted += 1;
        if state.mode == Mode::Cut {
            return;
        }
        // Nobody listens there any more: then the near side is closed, too.
        let Ok(far) = TcpStream::connect(target) else { return };
        for (from, to, way) in [(&near, &far, Mode::StallThere), (&far, &near, Mode::StallBack)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pass(from, to, way));
        }
        state.open.extend([near, far]);
    }

    /// `way`: what holds up this direction.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, way: Mode) {
        let mut buffer = [0; 16_384];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let state = self.lock();
            let waiting =
                self.changed.wait_while(state, |state| state.mode == Mode::Stall || state.mode == way);
            drop(waiting.unwrap_or_else(PoisonError::into_inner));
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
