//! Blobs over connections that break: downloads and uploads that go on where they were.

use std::{
    io::Read as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use super::support::{
    repository,
    server::{Behaviour, Reply, Request, Server},
    sessions::{CUT, Sessions},
};
use deploy_spec::Digest;
use deployctl::client::{Check, ClientError, Content, Progress, Uploaded};

fn content(length: usize) -> Vec<u8> {
    let mut value = 1_u32;
    let mut next = || {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (value >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What a registry does with `Range`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ranges {
    Known,
    Unknown,
}

/// Returns a server of one blob, whose first answer is cut off after `cut` bytes.
fn blob_server(bytes: Vec<u8>, ranges: Ranges, cut: usize) -> Server {
    let whole = AtomicBool::new(false);
    Server::start(move |request: &Request| {
        if request.target == "/v2/" {
            return Reply::new(200);
        }
        let range = request.header("range").filter(|_| ranges == Ranges::Known);
        let first = range.map(|text| text.trim_start_matches("bytes=").trim_end_matches('-'));
        let first: usize = first.map_or(0, |text| text.parse().unwrap());
        let reply = match first {
            0 => Reply::new(200),
            _ => Reply::new(206).header(
                "Content-Range",
                format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len()),
            ),
        };
        let cut = (!whole.swap(true, Ordering::SeqCst)).then_some(cut);
        Reply {
            cut,
            ..reply.body(&bytes[first..])
        }
    })
}

#[tokio::test]
async fn a_download_goes_on_where_the_connection_broke() {
    let bytes = content(300_000);
    let digest = Digest::sha256(&bytes);
    for ranges in [Ranges::Known, Ranges::Unknown] {
        let server = blob_server(bytes.clone(), ranges, 100_000);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        let positions = Arc::<Mutex<Vec<u64>>>::default();
        let seen = positions.clone();
        let progress = Progress::new(move |position| seen.lock().unwrap().push(position));
        let size = Some(bytes.len() as u64);
        let repository = repository(&server.address);
        let read = repository.download(&digest, size, &path, &progress).await;
        assert_eq!(read.unwrap(), 300_000);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let requests = server.seen("GET");
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1].header("range"), Some("bytes=100000-"));
        let positions = positions.lock().unwrap();
        assert!(positions.is_sorted() && positions.last() == Some(&300_000));
    }
}

#[tokio::test]
async fn a_download_goes_on_where_an_earlier_program_stopped() {
    let bytes = content(200_000);
    let digest = Digest::sha256(&bytes);
    let server = blob_server(bytes.clone(), Ranges::Known, bytes.len());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    std::fs::write(&path, &bytes[..150_000]).unwrap();
    let repository = repository(&server.address);
    let size = Some(bytes.len() as u64);
    let read = repository
        .download(&digest, size, &path, &Progress::none())
        .await;
    assert_eq!(read.unwrap(), 200_000);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(server.seen("GET")[0].header("range"), Some("bytes=150000-"));
}

#[tokio::test]
async fn a_beginning_that_is_wrong_is_found_out_and_removed() {
    let bytes = content(200_000);
    let digest = Digest::sha256(&bytes);
    let server = blob_server(bytes.clone(), Ranges::Known, 10);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    std::fs::write(&path, vec![0; 150_000]).unwrap();
    let repository = repository(&server.address);
    let size = Some(bytes.len() as u64);
    let result = repository
        .download(&digest, size, &path, &Progress::none())
        .await;
    assert!(
        matches!(result, Err(ClientError::Digest { .. })),
        "{result:?}"
    );
    assert!(!path.exists());
    repository
        .download(&digest, size, &path, &Progress::none())
        .await
        .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn content_of_another_size_or_digest_is_refused() {
    let bytes = content(1000);
    let digest = Digest::sha256(&bytes);
    for (sent, size) in [
        (content(1001), Some(1000)),
        (content(999), Some(1000)),
        (content(999), None),
    ] {
        let server = Server::start(move |_: &Request| Reply::new(200).body(sent.clone()));
        let mut reader = repository(&server.address).blob(&digest, size);
        let error = loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it passed for the blob"),
                Err(error) => break error,
            }
        };
        let is_right = matches!(error, ClientError::Size { .. } | ClientError::Digest { .. });
        assert!(is_right, "{error}");
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_the_connection_broke() {
    let bytes = content(20 * 1024 * 1024);
    let sessions = Sessions::cutting_once();
    let server = Server::start(sessions.clone());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    std::fs::write(&path, &bytes).unwrap();
    let content = Content::File {
        path,
        size: bytes.len() as u64,
    };
    let digest = Digest::sha256(&bytes);
    let repository = repository(&server.address);
    let uploaded = repository
        .upload(&digest, &content, &Progress::none())
        .await
        .unwrap();
    assert_eq!(uploaded, Uploaded::Sent { before: 0 });
    assert!(sessions.state().received.as_ref() == Some(&bytes));
    let patches = server.seen("PATCH");
    let last = bytes.len() - 1;
    assert_eq!(
        patches[0].header("content-range"),
        Some(&*format!("0-{last}"))
    );
    assert_eq!(
        patches[1].header("content-range"),
        Some(&*format!("{CUT}-{last}"))
    );
    assert_eq!(server.seen("POST").len(), 1);
}

/// Tells when it is asked how far an upload is.
struct Asked {
    sessions: Sessions,
    way: mpsc::Sender<()>,
}

impl Behaviour for Asked {
    fn takes(&self, head: &Request) -> Option<usize> {
        self.sessions.takes(head)
    }

    fn answer(&self, request: &Request) -> Reply {
        if request.method == "GET" && request.target != "/v2/" {
            self.way.send(()).ok();
        }
        self.sessions.answer(request)
    }
}

#[tokio::test]
async fn whoever_has_a_say_misses_nothing_where_the_connection_breaks() {
    let bytes = content(20 * 1024 * 1024);
    let (way, asked) = mpsc::channel();
    let sessions = Sessions::cutting_once();
    let server = Server::start(Asked {
        sessions: sessions.clone(),
        way,
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    std::fs::write(&path, &bytes).unwrap();
    let file = Content::File {
        path,
        size: bytes.len() as u64,
    };
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let all = seen.clone();
    let check = Check::new(move |mut passing| {
        let mut all = all.lock().unwrap();
        passing.by_ref().take(CUT as u64).read_to_end(&mut all)?;
        // So slow that pieces wait to be seen when the connection breaks.
        asked.recv()?;
        passing.read_to_end(&mut all)?;
        Ok(())
    });
    let content = Content::Checked {
        content: Box::new(file),
        check,
    };
    let digest = Digest::sha256(&bytes);
    let repository = repository(&server.address);
    let uploaded = repository
        .upload(&digest, &content, &Progress::none())
        .await
        .unwrap();
    assert_eq!(uploaded, Uploaded::Sent { before: 0 });
    assert!(sessions.state().received.as_ref() == Some(&bytes));
    assert!(*seen.lock().unwrap() == bytes);
    assert_eq!(server.seen("PATCH").len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let server = Server::start(Sessions::default());
    let missing = Content::File {
        path: "/does/not/exist".into(),
        size: 1,
    };
    let digest = Digest::sha256(b"x");
    let repository = repository(&server.address);
    let error = repository
        .upload(&digest, &missing, &Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::File { .. }), "{error}");
}

#[tokio::test]
async fn where_nothing_is_mounted_the_bytes_are_copied_and_the_session_given_back() {
    let bytes = content(1000);
    let digest = Digest::sha256(&bytes);
    let sent = bytes.clone();
    let server = Server::start(move |request: &Request| match request.method.as_str() {
        "GET" if request.path().contains("components/code/blobs/") => {
            Reply::new(200).body(sent.clone())
        }
        "GET" => Reply::new(200),
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/session"),
        "PUT" => Reply::new(201),
        _ => Reply::new(204),
    });
    let from = repository(&server.address);
    let to = from
        .registry()
        .repository("configs/project".parse().unwrap());
    let moved = deployctl::transfer::blob(&digest, 1000, &from, &to, &Progress::none()).await;
    assert_eq!(moved.unwrap(), Uploaded::Sent { before: 0 });
    assert_eq!(server.seen("DELETE").len(), 1);
    let posts = server.seen("POST");
    assert_eq!(posts[0].query("mount"), Some(digest.to_string()));
    assert_eq!(posts[0].query("from").as_deref(), Some("components/code"));
    assert_eq!(server.seen("PUT")[0].body, bytes);
}
