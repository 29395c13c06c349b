//! A container engine as far as `docker-daemon:` needs one: a socket that gives one image out. No
//! engine runs where the scenarios do.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// An engine on a socket of its own, as long as the process lives.
pub(crate) struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// Starts one that has this image under this name.
    pub(crate) fn start(directory: &Path, name: &str, archive: Vec<u8>) -> Self {
        let socket = directory.join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let target = format!("GET /images/{name}/get ");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &target, &archive);
            }
        });
        Self { socket }
    }

    /// What `DOCKER_HOST` is for it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

fn answer(mut stream: UnixStream, target: &str, archive: &[u8]) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n";
    if !request.starts_with(target.as_bytes()) {
        let reason = r#"{"message":"No such image: nothing:latest"}"#;
        let head = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n",
            reason.len()
        );
        stream
            .write_all(format!("{head}{reason}").as_bytes())
            .unwrap();
        return;
    }
    stream.write_all(head.as_bytes()).unwrap();
    for chunk in archive.chunks(1000) {
        let size = format!("{:x}\r\n", chunk.len());
        // Who asked may have seen enough.
        let sent = [size.as_bytes(), chunk, b"\r\n"].concat();
        if stream.write_all(&sent).is_err() {
            return;
        }
    }
    stream.write_all(b"0\r\n\r\n").ok();
}
