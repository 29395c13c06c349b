//! Ports that are known before anybody listens on them. Called by what starts our registry on a known port,
//! and by scenarios of a server that is down.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of 127.0.0.1 that is kept until this is dropped: the system gives it to nobody who asks for any port,
/// and connections are refused until a program listens there. A program that names the port can, where it
/// allows addresses to be reused, as listeners of Rust and Go do; it can again after it was killed.
///
/// A port that was merely free a moment ago is another test's the next.
#[derive(Debug)]
pub struct Port {
    // Bound and not listening.
    _socket: TcpSocket,
    address: SocketAddr,
}

impl Port {
    /// Takes one.
    ///
    /// # Panics
    /// When there is none left.
    pub fn reserve() -> Self {
        let bind = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let address = socket.local_addr()?;
            Ok::<_, std::io::Error>(Self {
                _socket: socket,
                address,
            })
        };
        bind().expect("a port is free")
    }

    /// `127.0.0.1` and the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.address.port()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn port_refuses_until_somebody_listens_and_after() {
        let port = Port::reserve();
        for _ in 0..2 {
            TcpStream::connect(port.address()).unwrap_err();
            let listener = TcpListener::bind(port.address()).unwrap();
            TcpStream::connect(port.address()).unwrap();
            drop(listener);
        }
    }
}
