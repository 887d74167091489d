//! The listening socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::admission::Occasionally;

/// A bound socket; connections wait in the kernel's queue until [`super::serve::run`] accepts them.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    failures: Occasionally,
}

impl Listener {
    /// How long to wait after the system has refused a connection for lack of something, file handles above all:
    /// the connection is still in the queue, so trying again at once would spin.
    const PAUSE: Duration = Duration::from_millis(100);

    /// Binds `address`; port 0 picks a free one. `[::]` takes IPv4 as well where the system allows it.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, failures: Occasionally::new() })
    }

    /// Takes a socket that listens already.
    pub fn adopt(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, failures: Occasionally::new() })
    }

    /// The socket once more: as long as that is there, clients wait in its queue instead of being refused.
    pub fn spare(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// The address with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Does not lose one when it is cancelled.
    pub(super) async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    if let Some(times) = self.failures.due() {
                        tracing::error!(%error, times, "cannot accept connections");
                    }
                    tokio::time::sleep(Self::PAUSE).await;
                }
            }
        }
    }
}

/// Whether accepting failed because the client went away while it waited.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
