//! Who may do what: every endpoint for everybody, against a table. Whatever is refused is refused in
//! the same words where nothing of it exists.

use deploy_spec::Digest;
use reqwest::Response;
use serde_json::Value;

use crate::{
    harness::{INDEX, MANIFEST, image},
    people::{Credential, Guarded, INSIDE, NARROWED, OPERATOR, OUTSIDE, SERVICE, tampered},
};

/// The columns:
///
/// - `nobody` has no token, `public` has none either where there is `--anonymous read`;
/// - `service` and `operator` have keys; `inside` and `outside` are a key narrowed to some
///   repositories, in one of them and in another one; `reader` and `writer` have passwords;
/// - `expired` and `tampered` were tokens of the operator.
///
/// What is admitted has its status. What is not has the code `UNAUTHORIZED` and the status 401, with a
/// challenge that names what is needed, and
///
/// - `login`: no error, since no token was sent;
/// - `scope`: the error `insufficient_scope`;
/// - `token`: the error `invalid_token`;
/// - `proof`: at the token endpoint, where a password or the like is asked for.
const TABLE: &str = "
needs    request                       nobody public service operator inside outside reader writer expired tampered
-        GET    /v2/                   login  login  200     200      200    200     200    200    token   token
-        GET    /v2/_oci/ext/discover  login  200    200     200      200    200     200    200    token   token
catalog  GET    /v2/_catalog           login  200    200     200      scope  scope   200    200    token   token
audit    GET    /v2/_deploytools/audit login  login  scope   200      scope  scope   scope  200    token   token
pull     GET    blob                   login  200    200     200      200    scope   200    200    token   token
pull     HEAD   blob                   login  200    200     200      200    scope   200    200    token   token
delete   DELETE blob                   login  login  scope   202      202    scope   scope  202    token   token
push     POST   uploads                login  login  scope   202      202    scope   scope  202    token   token
push     POST   uploads?digest         login  login  scope   201      201    scope   scope  201    token   token
push     POST   uploads?mount=inside   login  login  scope   201      201    scope   scope  201    token   token
push     POST   uploads?mount=outside  login  login  scope   201      202    scope   scope  201    token   token
push     POST   uploads?mount=anywhere login  login  scope   201      202    scope   scope  201    token   token
push     GET    upload                 login  login  scope   204      204    scope   scope  204    token   token
push     PATCH  upload                 login  login  scope   202      202    scope   scope  202    token   token
push     PUT    upload                 login  login  scope   201      201    scope   scope  201    token   token
push     DELETE upload                 login  login  scope   204      204    scope   scope  204    token   token
pull     GET    manifest:tag           login  200    200     200      200    scope   200    200    token   token
pull     GET    manifest:digest        login  200    200     200      200    scope   200    200    token   token
pull     HEAD   manifest:tag           login  200    200     200      200    scope   200    200    token   token
pull     HEAD   manifest:digest        login  200    200     200      200    scope   200    200    token   token
push     PUT    manifest:tag           login  login  scope   201      201    scope   scope  201    token   token
push     PUT    manifest:digest        login  login  scope   201      201    scope   scope  201    token   token
delete   DELETE manifest:tag           login  login  scope   202      202    scope   scope  202    token   token
delete   DELETE manifest:digest        login  login  scope   202      202    scope   scope  202    token   token
pull     GET    tags                   login  200    200     200      200    scope   200    200    token   token
pull     GET    referrers              login  200    200     200      200    scope   200    200    token   token
-        GET    /token                 proof  200    proof   proof    proof  proof   200    200    proof   proof
-        POST   /token                 proof  200    200     200      200    200     200    200    proof   proof
-        GET    /token/nonce           200    200    200     200      200    200     200    200    200     200
-        GET    /healthz               200    200    200     200      200    200     200    200    200     200
-        GET    /readyz                200    200    200     200      200    200     200    200    200     200
-        GET    /metrics               200    200    200     200      200    200     200    200    200     200
";

/// A request of the table.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    needs: &'a str,
    method: &'a str,
    what: &'a str,
}

/// Somebody, and a registry that he asks.
struct Column<'a> {
    registry: &'a Guarded,
    credential: Credential,
    /// What his repositories begin with.
    place: &'a str,
}

/// What is there for a request: a repository with some of everything.
struct Content {
    repository: String,
    blob: Digest,
    manifest: Digest,
    tag: &'static str,
    upload: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_may_do_what_the_table_says_and_learns_nothing_else() {
    let closed = Guarded::start(&[]);
    let public = Guarded::start(&["-anonymous", "read"]);
    let [header, lines @ ..] = &TABLE.trim().lines().collect::<Vec<_>>()[..] else {
        panic!("an empty table")
    };
    let names: Vec<&str> = header.split_whitespace().skip(2).collect();
    for (number, name) in names.iter().enumerate() {
        let column = column(name, &closed, &public);
        let rows = lines.iter().map(|line| line.split_whitespace().collect());
        let rows: Vec<Vec<&str>> = rows.collect();
        let repositories = (0..rows.len()).map(|row| format!("{}/{name}-{row}", column.place));
        let repositories: Vec<String> = repositories.collect();
        let scopes = scopes(&repositories);
        let operator = column.registry.token(&OPERATOR, &scopes).await.unwrap();
        let credential = match *name {
            "expired" => Credential::Token(column.registry.old_token(&scopes, 400)),
            "tampered" => Credential::Token(tampered(&operator)),
            _ => column.credential.clone(),
        };
        let token = column.registry.token(&credential, &scopes).await;
        for (cells, repository) in rows.iter().zip(&repositories) {
            assert_eq!(cells.len(), 3 + names.len(), "{cells:?}");
            let row = Row {
                needs: cells[0],
                method: cells[1],
                what: cells[2],
            };
            let expected = cells[3 + number];
            let content = Content::push(column.registry, &operator, repository).await;
            let asker = Asker {
                column: &column,
                credential: &credential,
                token: token.as_deref(),
            };
            let found = asker.ask(&row, &content).await.shown(&row, &content).await;
            assert_eq!(found.0, expected, "{row:?} of {name}: {}", found.1);
            if expected.parse::<u16>().is_err() {
                for missing in content.missing() {
                    let answer = asker.ask(&row, &missing).await;
                    let same = answer.shown(&row, &missing).await;
                    assert_eq!(same, found, "{row:?} of {name} where nothing is");
                }
            }
        }
    }
    let metrics = closed.request("GET", "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for counted in [
        "requests_refused_total{reason=\"no_token\"}",
        "requests_refused_total{reason=\"invalid_token\"}",
        "requests_refused_total{reason=\"insufficient_scope\"}",
        "logins_total{kind=\"key\",outcome=\"done\"}",
        "logins_total{kind=\"anonymous\",outcome=\"failed\"}",
        "logins_total{kind=\"refresh\",outcome=\"failed\"}",
        "http_requests_total{route=\"token\",method=\"POST\",status=\"401\"}",
    ] {
        let mut lines = metrics.lines();
        let line =
            lines.find_map(|line| line.strip_prefix("deploy_registry_")?.strip_prefix(counted));
        assert!(line.is_some_and(|count| count.trim() != "0"), "{counted}");
    }
}

fn column<'a>(name: &str, closed: &'a Guarded, public: &'a Guarded) -> Column<'a> {
    let (registry, credential, place) = match name {
        "nobody" => (closed, Credential::Nobody, INSIDE),
        "public" => (public, Credential::Nobody, INSIDE),
        "service" => (closed, SERVICE, INSIDE),
        "operator" => (closed, OPERATOR, OUTSIDE),
        "inside" => (closed, NARROWED, INSIDE),
        "outside" => (closed, NARROWED, OUTSIDE),
        "reader" => (closed, Credential::User("reader"), INSIDE),
        "writer" => (closed, Credential::User("writer"), OUTSIDE),
        // Made from a token of the operator.
        "expired" | "tampered" => (closed, Credential::Nobody, INSIDE),
        other => panic!("who is {other}?"),
    };
    Column {
        registry,
        credential,
        place,
    }
}

/// Asking for too much is no error, so everybody asks for everything.
fn scopes(repositories: &[String]) -> String {
    let sources = [INSIDE, OUTSIDE].map(|place| format!("{place}/source"));
    let all = repositories.iter().chain(&sources);
    let all = all.map(|name| format!("repository:{name}:pull,push,delete"));
    let all: Vec<String> = all
        .chain(["catalog", "audit", "blobs"].map(|name| format!("registry:{name}:*")))
        .collect();
    all.join(" ")
}

fn source(place: &str) -> Vec<u8> {
    format!("what {place} has").into_bytes()
}

impl Content {
    /// Pushes it as the operator, with what may be mounted from elsewhere.
    async fn push(registry: &Guarded, token: &str, repository: &str) -> Self {
        let push = |method: &'static str, path: String, body: Vec<u8>| {
            let request = registry.request(method, &path).bearer_auth(token);
            let request = request.header("content-type", MANIFEST).body(body);
            async move {
                let response = request.send().await.unwrap();
                assert!(
                    response.status().is_success(),
                    "{path}: {}",
                    response.status()
                );
                response
            }
        };
        for place in [INSIDE, OUTSIDE] {
            let (name, bytes) = (format!("{place}/source"), source(place));
            let digest = Digest::sha256(&bytes);
            let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
            push("POST", path, bytes).await;
        }
        let bytes = repository.as_bytes().to_vec();
        let blob = Digest::sha256(&bytes);
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        push("POST", format!("{uploads}?digest={blob}"), bytes).await;
        let manifest = image(&blob, &[]).to_string().into_bytes();
        let digest = Digest::sha256(&manifest);
        let tag = "v1";
        push("PUT", format!("/v2/{repository}/manifests/{tag}"), manifest).await;
        let upload = push("POST", uploads, Vec::new()).await;
        let upload = upload.headers()["location"].to_str().unwrap().to_owned();
        Self {
            repository: repository.to_owned(),
            blob,
            manifest: digest,
            tag,
            upload,
        }
    }

    /// Returns what is not there: in the same repository, and in one that nobody ever pushed to.
    fn missing(&self) -> [Self; 2] {
        let missing = |repository: String| {
            let digest = Digest::sha256(b"nobody has it");
            Self {
                blob: digest.clone(),
                manifest: digest,
                tag: "v9",
                upload: format!("/v2/{repository}/blobs/uploads/0123456789abcdef0123456789abcdef"),
                repository,
            }
        };
        [
            missing(self.repository.clone()),
            missing(format!("{}-missing", self.repository)),
        ]
    }
}

/// Somebody who asks.
struct Asker<'a> {
    column: &'a Column<'a>,
    credential: &'a Credential,
    token: Option<&'a str>,
}

/// What he is answered.
struct Answer(Response);

impl Asker<'_> {
    async fn ask(&self, row: &Row<'_>, content: &Content) -> Answer {
        let registry = self.column.registry;
        let repository = &content.repository;
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let mount = |place: &str| {
            // What is refused says as little of a source as of anything else.
            let digest = match content.tag {
                "v1" => Digest::sha256(&source(place)),
                _ => content.blob.clone(),
            };
            format!("{uploads}?mount={digest}&from={place}/source")
        };
        let new = format!("pushed to {repository}").into_bytes();
        let digest = Digest::sha256(&new);
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
        let by_digest = Digest::sha256(index.as_bytes());
        let manifest = |reference: &str| format!("/v2/{repository}/manifests/{reference}");
        let (path, body) = match (row.method, row.what) {
            ("GET", "/token") => return Answer(registry.get_token(self.credential, "").await),
            ("POST", "/token") => return Answer(registry.post_token(self.credential, "").await),
            (_, path) if path.starts_with('/') => (path.to_owned(), None),
            (_, "blob") => (format!("/v2/{repository}/blobs/{}", content.blob), None),
            (_, "uploads") => (uploads, None),
            (_, "uploads?digest") => (format!("{uploads}?digest={digest}"), Some(new)),
            (_, "uploads?mount=inside") => (mount(INSIDE), None),
            (_, "uploads?mount=outside") => (mount(OUTSIDE), None),
            (_, "uploads?mount=anywhere") => {
                let from_one = mount(OUTSIDE);
                (from_one.split_once("&from=").unwrap().0.to_owned(), None)
            }
            ("PUT", "upload") => (format!("{}?digest={digest}", content.upload), Some(new)),
            ("PATCH", "upload") => (content.upload.clone(), Some(new)),
            (_, "upload") => (content.upload.clone(), None),
            ("PUT", "manifest:tag") => (manifest(content.tag), Some(index.into_bytes())),
            ("PUT", "manifest:digest") => {
                (manifest(&by_digest.to_string()), Some(index.into_bytes()))
            }
            (_, "manifest:tag") => (manifest(content.tag), None),
            (_, "manifest:digest") => (manifest(&content.manifest.to_string()), None),
            (_, "tags") => (format!("/v2/{repository}/tags/list"), None),
            (_, "referrers") => (
                format!("/v2/{repository}/referrers/{}", content.manifest),
                None,
            ),
            (_, other) => panic!("what is {other}?"),
        };
        let mut request = registry.request(row.method, &path);
        if let Some(body) = body {
            request = request.header("content-type", INDEX).body(body);
        }
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        Answer(request.send().await.unwrap())
    }
}

impl Answer {
    /// Returns the word of the table, and everything else that an answer says that is refused, but for
    /// the name of its repository.
    async fn shown(self, row: &Row<'_>, content: &Content) -> (String, String) {
        let Self(response) = self;
        let status = response.status().as_u16();
        let text = |name: &str| {
            let value = response.headers().get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let challenge = text("www-authenticate");
        let mut names: Vec<&str> = response
            .headers()
            .keys()
            .map(|name| name.as_str())
            .collect();
        names.sort_unstable();
        let (names, length) = (names.join(" "), text("content-length"));
        let body = response.text().await.unwrap();
        if status != 401 {
            return (status.to_string(), body);
        }
        if row.method != "HEAD" {
            let envelope: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(envelope["errors"][0]["code"], "UNAUTHORIZED", "{body}");
        }
        let word = if challenge.starts_with("Basic ") {
            assert_eq!(challenge, r#"Basic realm="deploy-registry""#);
            "proof"
        } else {
            let scope = match row.needs {
                "-" => String::new(),
                "catalog" => r#",scope="registry:catalog:*""#.to_owned(),
                "audit" => r#",scope="registry:audit:*""#.to_owned(),
                needs => {
                    // A blob is mounted by whoever may read it where it is.
                    let source = match row.what.split_once("?mount=") {
                        Some(("uploads", "inside")) => format!(" repository:{INSIDE}/source:pull"),
                        Some(("uploads", "outside")) => {
                            format!(" repository:{OUTSIDE}/source:pull")
                        }
                        Some(("uploads", "anywhere")) => " registry:blobs:*".to_owned(),
                        _ => String::new(),
                    };
                    format!(
                        r#",scope="repository:{}:{needs}{source}""#,
                        content.repository
                    )
                }
            };
            let (start, error) =
                challenge.split_at(challenge.find(",error=").unwrap_or(challenge.len()));
            assert!(
                start.starts_with(r#"Bearer realm="http://127.0.0.1:"#),
                "{start}"
            );
            let rest = start.split_once("/token\"").unwrap().1;
            assert_eq!(rest, format!(r#",service="deploy-registry"{scope}"#));
            match error {
                "" => "login",
                r#",error="insufficient_scope""# => "scope",
                r#",error="invalid_token""# => "token",
                other => panic!("{other}"),
            }
        };
        let challenge = challenge.replace(&content.repository, "NAME");
        let said = format!("{challenge}\n{names}\n{length}\n{body}");
        (word.to_owned(), said)
    }
}
