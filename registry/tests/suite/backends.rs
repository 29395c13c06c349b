//! Every place that a store can be kept at and that can run here: memory, a directory, and the servers of other
//! projects, one of each for this process.
//!
//! A test asks for a place of its own, as one store or as replicas: stores that share nothing but the
//! place. Where a server is not installed, the test is said to be skipped.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use deploy_registry::{
    Store,
    store::{Bucket, Location},
};
use deploy_spec::Digest;
use object_store::{
    ObjectStore, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, memory::InMemory,
    multipart::MultipartStore, prefix::PrefixStore,
};

const NAME: &str = "tests";
const KEY: &str = "tests";
const SECRET: &str = "not-a-secret-in-tests";
/// Those of Azure's emulator, which everybody knows.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Stores that share a place, and whatever the place needs to be there.
pub(crate) struct Replicas {
    pub(crate) stores: Vec<Store>,
    /// Whether a server has to be asked, which takes its time.
    pub(crate) is_remote: bool,
    _directory: Option<tempfile::TempDir>,
}

/// So many replicas in memory.
pub(crate) fn in_memory(count: usize) -> Replicas {
    let memory = InMemory::new();
    Replicas {
        stores: (0..count)
            .map(|_| Store::multipart(memory.clone()))
            .collect(),
        is_remote: false,
        _directory: None,
    }
}

/// A store in a directory, which can have no replicas.
pub(crate) fn in_directory() -> Replicas {
    let directory = tempfile::tempdir().unwrap();
    Replicas {
        stores: vec![Store::open(directory.path()).unwrap()],
        is_remote: false,
        _directory: Some(directory),
    }
}

/// So many replicas on an S3 server; nothing where there is none.
pub(crate) async fn on_minio(test: &str, count: usize) -> Option<Replicas> {
    Some(place_on_minio(test)?.replicas(count).await)
}

/// So many replicas on an emulator of Azure's blob storage; nothing where there is none.
pub(crate) async fn on_azurite(test: &str, count: usize) -> Option<Replicas> {
    Some(place_on_azurite(test)?.replicas(count).await)
}

/// A place on an S3 server; nothing where there is none.
pub(crate) fn place_on_minio(test: &str) -> Option<Place> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| find("minio").map(|program| Server::minio(&program)));
    match server {
        Some(server) => Some(Place::new(server)),
        None => skipped(test, "minio"),
    }
}

/// A place on an emulator of Azure's blob storage; nothing where there is none.
pub(crate) fn place_on_azurite(test: &str) -> Option<Place> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server =
        SERVER.get_or_init(|| find("azurite-blob").map(|program| Server::azurite(&program)));
    match server {
        Some(server) => Some(Place::new(server)),
        None => skipped(test, "azurite"),
    }
}

/// Every place, with as many replicas as it can have, up to `count`.
pub(crate) async fn everywhere(test: &str, count: usize) -> Vec<Replicas> {
    let places = [
        Some(in_memory(count)),
        Some(in_directory()),
        on_minio(&format!("{test}_on_minio"), count).await,
        on_azurite(&format!("{test}_on_azurite"), count).await,
    ];
    places.into_iter().flatten().collect()
}

/// Runs the test on one store at each kind of place.
macro_rules! contract {
    ($($(#[$attribute:meta])* async fn $test:ident($store:ident: Store) $body:block)*) => {
        $(
            mod $test {
                use super::*;

                async fn check($store: Store) $body

                async fn check_first(mut replicas: $crate::backends::Replicas) {
                    check(replicas.stores.remove(0)).await;
                }

                #[tokio::test]
                async fn directory() {
                    check_first($crate::backends::in_directory()).await;
                }

                #[tokio::test]
                async fn memory() {
                    check(Store::memory()).await;
                }

                #[tokio::test]
                async fn shared_memory() {
                    check_first($crate::backends::in_memory(1)).await;
                }

                #[tokio::test]
                async fn minio() {
                    let name = concat!(stringify!($test), "_on_minio");
                    if let Some(replicas) = $crate::backends::on_minio(name, 1).await {
                        check_first(replicas).await;
                    }
                }

                #[tokio::test]
                async fn azurite() {
                    let name = concat!(stringify!($test), "_on_azurite");
                    if let Some(replicas) = $crate::backends::on_azurite(name, 1).await {
                        check_first(replicas).await;
                    }
                }
            }
        )*
    };
}
pub(crate) use contract;

/// A store as it is, past everything that is ours.
pub(crate) trait Raw: ObjectStore + MultipartStore {}
impl<S: ObjectStore + MultipartStore> Raw for S {}

/// A part of a server's bucket that nobody else has.
pub(crate) struct Place {
    server: &'static Server,
    prefix: String,
}

impl Place {
    fn new(server: &'static Server) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            server,
            prefix: format!("place/{number}"),
        }
    }

    /// Returns what `--store` takes.
    pub(crate) fn url(&self) -> String {
        format!("{}://{NAME}/{}", self.server.kind.scheme(), self.prefix)
    }

    /// Returns where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Returns the variables that lead to the server, some of them replaced by others.
    pub(crate) fn environment(&self, others: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = self.server.environment.iter();
        let own = own.filter(|(name, _)| others.iter().all(|(other, _)| name != other));
        let own = own.cloned();
        own.chain(environment(others)).collect()
    }

    /// Returns a store at the place.
    pub(crate) async fn store(&self) -> Store {
        self.store_with(&[]).await
    }

    /// Returns a store at the place that asks something else that listens there, and waits as
    /// long as this for an answer, where given.
    pub(crate) async fn store_through(&self, url: &str, patience: Option<&str>) -> Store {
        let (endpoint, value, timeout) = match self.server.kind {
            Kind::Amazon => ("AWS_ENDPOINT_URL", url.to_owned(), "AWS_READ_TIMEOUT"),
            Kind::Azure => (
                "AZURE_STORAGE_ENDPOINT",
                format!("{url}/{ACCOUNT}"),
                "AZURE_READ_TIMEOUT",
            ),
        };
        let mut others = vec![(endpoint, value.as_str())];
        others.extend(patience.map(|patience| (timeout, patience)));
        self.store_with(&others).await
    }

    async fn store_with(&self, others: &[(&str, &str)]) -> Store {
        let Ok(Location::Bucket(bucket)) = self.url().parse() else {
            panic!("`{}` is no bucket", self.url());
        };
        let bucket: Bucket = bucket;
        Store::connect(&bucket, &self.environment(others), false)
            .await
            .unwrap()
    }

    /// Returns what is at the place.
    pub(crate) fn raw(&self) -> Arc<dyn Raw> {
        let variables = self.server.environment.iter();
        let variables = variables.map(|(name, value)| (name.to_ascii_lowercase(), value));
        match self.server.kind {
            Kind::Amazon => {
                let builder = AmazonS3Builder::new().with_allow_http(true);
                let builder = variables.fold(builder, |builder, (name, value)| {
                    builder.with_config(name.parse().unwrap(), value)
                });
                let store = builder.with_bucket_name(NAME).build().unwrap();
                Arc::new(PrefixStore::new(store, self.prefix.as_str()))
            }
            Kind::Azure => {
                let builder = MicrosoftAzureBuilder::new()
                    .with_allow_http(true)
                    .with_account(ACCOUNT)
                    .with_access_key(ACCOUNT_KEY)
                    .with_endpoint(format!("http://{}/{ACCOUNT}", self.server.address));
                let store = builder.with_container_name(NAME).build().unwrap();
                Arc::new(PrefixStore::new(store, self.prefix.as_str()))
            }
        }
    }

    async fn replicas(&self, count: usize) -> Replicas {
        let mut stores = Vec::new();
        for _ in 0..count {
            stores.push(self.store().await);
        }
        Replicas {
            stores,
            is_remote: true,
            _directory: None,
        }
    }
}

/// Whose API a server speaks.
#[derive(Clone, Copy)]
enum Kind {
    Amazon,
    Azure,
}

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Self::Amazon => "s3",
            Self::Azure => "az",
        }
    }
}

/// A server with a bucket. It ends with this process, however that ends.
struct Server {
    kind: Kind,
    address: SocketAddr,
    environment: Vec<(String, String)>,
    /// When this closes, the shell that started the server ends it.
    _lifeline: ChildStdin,
}

impl Server {
    /// Servers take no port 0, so somebody may be faster; then another one is tried.
    fn start(try_start: impl Fn(SocketAddr) -> Option<Self>) -> Self {
        (0..3)
            .find_map(|_| try_start(free_address()))
            .expect("the server does not come up")
    }

    fn minio(program: &Path) -> Self {
        Self::start(|address| {
            let directory = tempfile::tempdir().unwrap().keep();
            let data = directory.join("data");
            // A directory is a bucket.
            std::fs::create_dir_all(data.join(NAME)).unwrap();
            let mut command = watched(&directory, program);
            command
                .args(["server", "--quiet", "--address", &address.to_string()])
                .arg(&data)
                .env("MINIO_ROOT_USER", KEY)
                .env("MINIO_ROOT_PASSWORD", SECRET)
                .env("MINIO_BROWSER", "off")
                .env("MINIO_CI_CD", "1")
                .env("HOME", &directory);
            let lifeline = command.spawn().unwrap().stdin.take().unwrap();
            let is_ready = wait_until(|| {
                let answer = ask(address, "GET", "/minio/health/ready", &[]);
                answer.starts_with("HTTP/1.1 200")
            });
            is_ready.then(|| Self {
                kind: Kind::Amazon,
                address,
                environment: environment(&[
                    ("AWS_ENDPOINT_URL", &format!("http://{address}")),
                    ("AWS_ACCESS_KEY_ID", KEY),
                    ("AWS_SECRET_ACCESS_KEY", SECRET),
                ]),
                _lifeline: lifeline,
            })
        })
    }

    fn azurite(program: &Path) -> Self {
        Self::start(|address| {
            let directory = tempfile::tempdir().unwrap().keep();
            let mut command = watched(&directory, program);
            command
                .args([
                    "--inMemoryPersistence",
                    "--skipApiVersionCheck",
                    "--disableTelemetry",
                    "--silent",
                ])
                .args(["--blobHost", "127.0.0.1", "--blobPort"])
                .arg(address.port().to_string())
                .env("HOME", &directory);
            let lifeline = command.spawn().unwrap().stdin.take().unwrap();
            let created = || create_container(address).starts_with("HTTP/1.1 201");
            wait_until(created).then(|| Self {
                kind: Kind::Azure,
                address,
                environment: environment(&[
                    ("AZURE_STORAGE_ACCOUNT", ACCOUNT),
                    ("AZURE_STORAGE_KEY", ACCOUNT_KEY),
                    // It closes connections that are idle for five seconds, whatever is on its
                    // way to it by then, and ignores what it is told of that.
                    ("AZURE_POOL_IDLE_TIMEOUT", "1s"),
                    (
                        "AZURE_STORAGE_ENDPOINT",
                        &format!("http://{address}/{ACCOUNT}"),
                    ),
                ]),
                _lifeline: lifeline,
            })
        })
    }
}

/// The command that runs a program until our end of its standard input closes, and then removes
/// its directory.
fn watched(directory: &Path, program: &Path) -> Command {
    const SCRIPT: &str = r#"directory=$1; shift
        "$@" >"$directory/log" 2>&1 </dev/null &
        cat >/dev/null; kill -9 $!; wait $! 2>/dev/null; rm -rf "$directory""#;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SCRIPT, "sh"])
        .arg(directory)
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn find(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Says so in the form that `tests/run` counts. On CI, everything has to be there.
fn skipped<T>(test: &str, need: &str) -> Option<T> {
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "{test} needs {need}, and on CI it has to be there"
    );
    // Written to the stream itself: what goes through `eprintln!` is kept back for a test that passes.
    writeln!(std::io::stderr().lock(), "skipped: {test} needs {need}").unwrap();
    None
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Looks now and then, for longer than any server takes on a busy machine.
fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a request without a body and returns the beginning of the answer; nothing where there is none.
fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let mut answer = [0; 64];
    let mut exchange = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{request}\r\n").as_bytes())?;
        stream.read(&mut answer)
    };
    let length = exchange().unwrap_or_default();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Creates the container, signed as `Authorize with Shared Key` of Azure's documentation says.
fn create_container(address: SocketAddr) -> String {
    const VERSION: &str = "2021-12-02";
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let date = printer
        .timestamp_to_rfc9110_string(&jiff::Timestamp::now())
        .unwrap();
    let signed = format!(
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{VERSION}\n\
         /{ACCOUNT}/{ACCOUNT}/{NAME}\nrestype:container"
    );
    let signature = BASE64.encode(hmac(
        &BASE64.decode(ACCOUNT_KEY).unwrap(),
        signed.as_bytes(),
    ));
    let headers = [
        ("x-ms-date", date.as_str()),
        ("x-ms-version", VERSION),
        ("Authorization", &format!("SharedKey {ACCOUNT}:{signature}")),
    ];
    ask(
        address,
        "PUT",
        &format!("/{ACCOUNT}/{NAME}?restype=container"),
        &headers,
    )
}

/// HMAC-SHA256 (RFC 2104) with a key of up to 64 bytes.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let padded = |filling: u8| -> Vec<u8> {
        let key = key.iter().copied().chain(std::iter::repeat(0));
        key.take(64).map(|byte| byte ^ filling).collect()
    };
    let inner = sha256(&[padded(0x36), message.to_vec()].concat());
    sha256(&[padded(0x5c), inner].concat())
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let digest = Digest::sha256(bytes);
    let pairs = digest.hex().as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
