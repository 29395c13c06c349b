//! How an operator reaches the process that serves a directory: a Unix socket in there, for its
//! owner alone. The verbs of the program ask through it, because the directory is locked.
//!
//! One line of JSON says what is wished; lines with progress come back, and last one with the
//! result. Whoever hangs up stops what he wished for.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use super::{Gc, Jobs};
use crate::store::{Collected, Mode, Progress, Scrub, Scrubbed, StoreError};

const SOCKET: &str = ".control";
/// Longest line that is read.
const LINE_MAX: u64 = 64 * 1024;
/// Time between two lines of progress.
const TELL: Duration = Duration::from_millis(500);

/// What an operator wishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Wish {
    /// A round of collection. What is not said is as the process was started.
    Gc {
        /// Whether it is only said what would be done.
        dry_run: bool,
        /// How long what nobody needs is kept.
        grace: Option<Duration>,
        /// Requests a second to the store.
        rate: Option<u64>,
        /// Versions of each component that are kept; 0 is all.
        versions: Option<usize>,
        /// Releases of each configuration that are kept; 0 is all.
        releases: Option<usize>,
    },
    /// That what scrubs have set aside is removed.
    Discard,
    /// A scrub.
    Scrub {
        /// Whether what is damaged stays where it is.
        dry_run: bool,
        /// Bytes a second.
        rate: Option<u64>,
    },
}

/// What is said about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is not over; this was done so far.
    Collecting(Collected),
    /// It is over.
    Collected(Collected),
    /// It is not over; this was read so far.
    Scrubbing(Scrubbed),
    /// It is over.
    Scrubbed(Scrubbed),
    /// It is over; so many objects are removed.
    Discarded(u64),
    /// It failed.
    Failed(String),
}

/// Why nobody could be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there, or may not be asked by this user.
    #[error("cannot reach the process that serves `{}`", directory.display())]
    Unreachable {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody serves the directory and listens to no requests.
    #[error(
        "`{}` is served by a process that collects and scrubs nothing\nhint: it serves read-only, \
         or has just started or is about to end; stop it, or ask again",
        directory.display()
    )]
    Unasked {
        /// The directory.
        directory: PathBuf,
    },
    /// It went away, or says what cannot be understood.
    #[error("the process that serves the directory broke off")]
    BrokeOff(#[source] io::Error),
    /// It did not succeed.
    #[error("{0}")]
    Failed(String),
}

/// The socket, until dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens in a directory that this process serves.
    ///
    /// # Errors
    /// Where there can be no socket.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (_handle, short) = short_path(directory)?;
        let listener = UnixListener::bind(short)?;
        // Who came in between is asked for who he is.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Does what operators wish until `stopping` turns true.
    pub async fn serve(self, jobs: Jobs, stopping: watch::Receiver<bool>) {
        let mut stop = stopping.clone();
        let mut wishes = JoinSet::new();
        loop {
            tokio::select! {
                () = turned_true(&mut stop) => break,
                Some(_) = wishes.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if is_ours(&stream) => {
                        let (jobs, stopping) = (jobs.clone(), stopping.clone());
                        wishes.spawn(async move {
                            if let Err(error) = answer(stream, jobs, stopping).await {
                                tracing::debug!(%error, "an operator hung up");
                            }
                        });
                    }
                    Ok(_) => tracing::warn!("a stranger came to the control socket"),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept an operator");
                        tokio::time::sleep(TELL).await;
                    }
                },
            }
        }
        wishes.join_all().await;
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // One that stays is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns a path to the socket that is short enough for its address, and what keeps it valid.
fn short_path(directory: &Path) -> io::Result<(File, PathBuf)> {
    let handle = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd());
    Ok((handle, path.into()))
}

/// Returns whether the other end is who we are, or root.
fn is_ours(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

/// Returns once it is true, or nobody can change it any more.
async fn turned_true(value: &mut watch::Receiver<bool>) {
    let _ = value.wait_for(|value| *value).await;
}

async fn answer(
    stream: UnixStream,
    jobs: Jobs,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LINE_MAX));
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let wish: Wish = match serde_json::from_str(&line) {
        Ok(wish) => wish,
        Err(error) => {
            let text = format!("the registry does not understand the wish: {error}");
            return tell(&mut writer, &Answer::Failed(text)).await;
        }
    };
    tracing::info!(?wish, "an operator asks for upkeep");
    let (stop, stopped) = watch::channel(false);
    let told = watch::Sender::new(None);
    let mut news = told.subscribe();
    let mut done = tokio::spawn(fulfil(wish, jobs, told, stopped));
    let mut rest = [0; 1];
    let last = loop {
        tokio::select! {
            done = &mut done => break done,
            () = turned_true(&mut stopping), if !*stop.borrow() => {
                stop.send_replace(true);
            }
            // Nothing more is to come: this is the end, or an error.
            _ = reader.read(&mut rest), if !*stop.borrow() => {
                stop.send_replace(true);
            }
            Ok(()) = news.changed() => {
                let progress = news.borrow_and_update().clone();
                if let Some(progress) = progress
                    && tell(&mut writer, &progress).await.is_err()
                {
                    stop.send_replace(true);
                }
            }
        }
    };
    match last {
        Ok(last) => tell(&mut writer, &last).await,
        Err(failed) => Err(io::Error::other(failed)),
    }
}

/// Does what is wished for, and returns the last line.
async fn fulfil(
    wish: Wish,
    jobs: Jobs,
    told: watch::Sender<Option<Answer>>,
    stop: watch::Receiver<bool>,
) -> Answer {
    let all = |number: usize| (number > 0).then_some(number);
    let done = match wish {
        Wish::Gc {
            dry_run,
            grace,
            rate,
            versions,
            releases,
        } => {
            let mut gc = Gc {
                dry_run,
                ..jobs.upkeep().gc()
            };
            gc.grace = grace.unwrap_or(gc.grace);
            gc.rate = rate.unwrap_or(gc.rate);
            if let Some(versions) = versions {
                gc.retention.versions = all(versions);
            }
            if let Some(releases) = releases {
                gc.retention.releases = all(releases);
            }
            let progress = Progress::default();
            let tell = async {
                loop {
                    tokio::time::sleep(TELL).await;
                    told.send_replace(Some(Answer::Collecting(progress.so_far())));
                }
            };
            tokio::select! {
                done = jobs.collect(&gc, &progress, stop) => done.map(Answer::Collected),
                () = tell => Err(StoreError::Stopped),
            }
        }
        Wish::Discard => jobs.discard().await.map(Answer::Discarded),
        Wish::Scrub { dry_run, rate } => {
            let mode = match dry_run {
                true => Mode::DryRun,
                false => Mode::Do,
            };
            let rate = rate.unwrap_or(jobs.upkeep().scrub_rate);
            let scrub = Scrub::new(mode, rate, |pace| pace.until(stop));
            let mut last = tokio::time::Instant::now();
            let mut report = |scrubbed: &Scrubbed| {
                if last.elapsed() >= TELL {
                    last = tokio::time::Instant::now();
                    told.send_replace(Some(Answer::Scrubbing(scrubbed.clone())));
                }
            };
            jobs.scrub(&scrub, &mut report).await.map(Answer::Scrubbed)
        }
    };
    done.unwrap_or_else(|error| Answer::Failed(error.to_string()))
}

async fn tell(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    answer: &Answer,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// Asks the process that serves a directory, tells `progress` how far it is, and returns its
/// last answer.
///
/// # Errors
/// [`ControlError`].
pub async fn ask(
    directory: &Path,
    wish: &Wish,
    progress: &mut dyn FnMut(&Answer),
) -> Result<Answer, ControlError> {
    let unreachable = |source| ControlError::Unreachable {
        directory: directory.to_owned(),
        source,
    };
    let (_handle, path) = short_path(directory).map_err(unreachable)?;
    let connected = UnixStream::connect(path).await;
    let stream = connected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ControlError::Unasked {
            directory: directory.to_owned(),
        },
        _ => unreachable(error),
    })?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(wish)
        .map_err(io::Error::other)
        .map_err(ControlError::BrokeOff)?;
    line.push(b'\n');
    writer
        .write_all(&line)
        .await
        .map_err(ControlError::BrokeOff)?;
    let mut lines = BufReader::new(reader).lines();
    loop {
        let line = lines.next_line().await.map_err(ControlError::BrokeOff)?;
        let Some(line) = line else {
            return Err(ControlError::BrokeOff(io::ErrorKind::UnexpectedEof.into()));
        };
        let answer = serde_json::from_str(&line)
            .map_err(io::Error::other)
            .map_err(ControlError::BrokeOff)?;
        match answer {
            Answer::Collecting(_) | Answer::Scrubbing(_) => progress(&answer),
            Answer::Failed(text) => return Err(ControlError::Failed(text)),
            Answer::Collected(_) | Answer::Scrubbed(_) | Answer::Discarded(_) => {
                return Ok(answer);
            }
        }
    }
}
