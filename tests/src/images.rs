//! Container images, made by other projects' programs of real packages, with everything in their layers
//! that makes unpacking hard; and what these programs say such an image's root file system is. Called by
//! the scenarios of images.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::command::Run;
use crate::desk::Desk;
use crate::tree::Tree;
use crate::{peers, programs};

/// Tools that have a thousand files to hash, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(300);

/// The layers that umoci makes, lowest first: each changes what is at `$ROOT`, and `put PACKAGE …` unpacks
/// packages there.
const OF_PACKAGES: [&str; 5] = [
    // Merged directories, as Debian has them: what later layers bring to /lib is in /usr/lib.
    r#"mkdir -p "$ROOT"/usr/bin "$ROOT"/usr/lib "$ROOT"/usr/lib64 "$ROOT"/usr/sbin "$ROOT"/etc "$ROOT"/tmp
       chmod 1777 "$ROOT"/tmp
       for name in bin lib lib64 sbin; do ln -s usr/$name "$ROOT"/$name; done
       ln -s /usr/lib "$ROOT"/absolute
       put busybox-static"#,
    // perl has two names; libc6 brings the loader.
    "put libc6 libcrypt1 perl-base",
    // Set-id programs, and symbolic links by the dozen.
    "put passwd",
    // What was a directory is a link, a file a directory, a link a file; much is gone. Of the directory
    // that is a link umoci has whiteouts for all that was in it. Were one of these names behind the link
    // too, buildah would remove it there, though a whiteout is about lower layers only.
    r#"cd "$ROOT"
       rm -r usr/share/man/de usr/share/man/fr/man5 usr/share/doc/passwd usr/share/lintian
       mkdir -p opt/doc; mv usr/share/doc/perl-base/copyright opt/doc/of-perl; rm -r usr/share/doc; ln -s ../../opt/doc usr/share/doc
       echo 'print "$ENV{GREETING} from $^X\n"' >opt/greet
       rm usr/sbin/groupadd; mkdir -m 2750 usr/sbin/groupadd; echo inner >usr/sbin/groupadd/inner
       rm usr/sbin/vigr; echo "no link any more" >usr/sbin/vigr; chmod 755 usr/sbin/vigr"#,
    // A file behind the link, other owners, another name across layers, capabilities.
    r#"cd "$ROOT"
       echo added >lib/added; chown 1234:5678 lib/added
       ln usr/bin/chage usr/bin/chage-too
       chown 4000000:4000001 etc/default; chmod 700 etc/default
       setcap cap_net_raw+ep usr/bin/busybox
       touch -d '2030-01-01 00:00:00.123456789 UTC' usr/lib/later"#,
];

/// What GNU tar makes a layer of that no program would leave behind: names, and a directory that hides
/// what lower layers have there.
const ODD: &str = r#"mkdir -p odd/usr/share/man odd/names; cd odd
    echo new >usr/share/man/new; : >usr/share/man/.wh..wh..opq
    cd names
    long=$(printf 'n%.0s' $(seq 200)); mkdir -p $long/$long; echo long >$long/$long/$long
    echo a >' '; echo b >'-rf'; echo c >'new
line'; echo d >'back\slash'; echo e >'ünï'; echo f >"$(printf '\377')"; echo g >'...'; echo h >'a.wh.b'
    ln "$long/$long/$long" ../also-long; ln -s "$long/$long/$long" link-to-long
    mkdir -m 000 closed; mkdir sticky; chmod 7777 sticky"#;

/// What is written through symbolic links of lower layers, and removed through them; a symbolic link with
/// two names; a name that begins with a slash.
const THROUGH: &str = r#"mkdir -p through/lib through/absolute through/etc; cd through
    echo through >lib/through; : >lib/.wh.added; echo absolute >absolute/through
    ln -s nowhere link; ln -P link link-too; echo slash >etc/slash
    cd ..; tar --format=pax --no-recursion -cf through.tar -C through lib/through lib/.wh.added absolute/through link link-too
    tar -P --format=pax --no-recursion --transform 's,^,/,' -rf through.tar -C through etc/slash"#;

/// The commands that buildah runs in a container, a layer each.
const BUILT: [&str; 3] = [
    "mkdir -p /etc/app/conf.d /data; echo 1 >/etc/app/one; ln /etc/app/one /etc/app/two; echo 3 >/etc/app/conf.d/three; ln -s app/one /etc/link",
    "rm /etc/app/two; rm -r /etc/app/conf.d; mkdir /etc/app/conf.d; echo 4 >/etc/app/conf.d/four; chown 7:8 /etc/app; chmod 4755 /etc/app/one",
    "rm /etc/link; mkdir /etc/link; echo 5 >/etc/link/five; rm -r /usr/share",
];

/// An image in an OCI layout.
#[derive(Debug, Clone)]
pub struct Image {
    layout: PathBuf,
    tag: &'static str,
}

/// A layer of an image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The archive.
    pub path: PathBuf,
    /// Its digest.
    pub digest: String,
    /// The digest of its uncompressed bytes.
    pub diff_id: String,
}

impl Image {
    /// The image as skopeo's users name it, `oci:DIRECTORY:TAG`.
    pub fn reference(&self) -> String {
        format!("oci:{}:{}", self.layout.display(), self.tag)
    }

    /// The image's configuration.
    ///
    /// # Panics
    /// When the layout cannot be read, as all below.
    pub fn config(&self) -> Value {
        self.json(self.manifest()["config"]["digest"].as_str())
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> Vec<Layer> {
        let (manifest, config) = (self.manifest(), self.config());
        let digests = manifest["layers"].as_array().expect("there are layers");
        let diff_ids = config["rootfs"]["diff_ids"].as_array();
        let diff_ids = diff_ids.expect("there are diff ids");
        assert_eq!(digests.len(), diff_ids.len());
        let text = |value: &Value| value.as_str().expect("a digest is text").to_owned();
        digests
            .iter()
            .zip(diff_ids)
            .map(|(layer, diff_id)| {
                let digest = text(&layer["digest"]);
                Layer {
                    path: self.blob(&digest),
                    digest,
                    diff_id: text(diff_id),
                }
            })
            .collect()
    }

    fn manifest(&self) -> Value {
        let index = std::fs::read(self.layout.join("index.json")).expect("there is an index");
        let index: Value = serde_json::from_slice(&index).expect("an index is JSON");
        let manifests = index["manifests"].as_array().expect("there are manifests");
        let name = |manifest: &&Value| {
            manifest["annotations"]["org.opencontainers.image.ref.name"] == self.tag
        };
        let manifest = manifests.iter().find(name).expect("the tag is there");
        self.json(manifest["digest"].as_str())
    }

    fn json(&self, digest: Option<&str>) -> Value {
        let path = self.blob(digest.expect("a descriptor has a digest"));
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("read `{}`: {error}", path.display()));
        serde_json::from_slice(&bytes).expect("a document is JSON")
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.layout.join("blobs").join(digest.replace(':', "/"))
    }
}

/// The programs that make images, and unpack them.
#[derive(Debug, Clone)]
pub struct Tools {
    umoci: PathBuf,
    buildah: PathBuf,
    packages: PathBuf,
}

impl Tools {
    /// Finds the programs and packages, and root's rights; says otherwise that `test` is skipped.
    pub fn find(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            peers::skip(test, "root, to give files away");
            return None;
        }
        let find = |name: &str| {
            let found = peers::find(name);
            if found.is_none() {
                peers::skip(test, name);
            }
            found
        };
        let packages = programs::workspace().join("target/peers/packages");
        let are_there = std::fs::read_dir(&packages).is_ok_and(|mut files| files.next().is_some());
        if !are_there {
            peers::skip(test, "the packages of tests/peers/packages.sh");
            return None;
        }
        for program in ["skopeo", "dpkg-deb", "setcap", "jq", "bash"] {
            find(program)?;
        }
        Some(Self {
            umoci: find("umoci")?,
            buildah: find("buildah")?,
            packages,
        })
    }

    /// Makes an image of Debian's packages by umoci: nine layers, among them an empty one, one that is
    /// there twice, and one that no program made.
    ///
    /// # Panics
    /// When that fails, as all below.
    #[track_caller]
    pub fn of_packages(&self, desk: &Desk) -> Image {
        let image = Image {
            layout: desk.path("of-packages"),
            tag: "latest",
        };
        let name = format!("{}:latest", image.layout.display());
        let layout = image.layout.display().to_string();
        self.umoci(desk, &["init", "--layout", &layout]);
        self.umoci(desk, &["new", "--image", &name]);
        self.umoci(desk, &["unpack", "--image", &name, "work"]);
        for layer in OF_PACKAGES {
            self.shell(desk, layer);
            let repack = ["repack", "--refresh-bundle", "--image", &name, "work"];
            self.umoci(desk, &repack);
        }
        self.shell(desk, ODD);
        self.shell(
            desk,
            "tar --format=pax --sort=name -cf odd.tar -C odd . && chmod 700 odd/names/closed",
        );
        desk.write("empty.tar", vec![0; 10 << 10]);
        self.shell(
            desk,
            "mkdir twice && echo twice >twice/file && tar -cf twice.tar -C twice file",
        );
        for layer in ["odd.tar", "empty.tar", "twice.tar", "twice.tar"] {
            self.umoci(desk, &["raw", "add-layer", "--image", &name, layer]);
        }
        self.configure(desk, &name);
        image
    }

    /// Adds a layer to the image of packages that goes through symbolic links of lower ones, under another
    /// tag.
    #[track_caller]
    pub fn through_links(&self, desk: &Desk, image: &Image) -> Image {
        self.shell(desk, THROUGH);
        let name = format!("{}:{}", image.layout.display(), image.tag);
        let image = Image {
            tag: "through",
            ..image.clone()
        };
        let add = ["raw", "add-layer", "--image", &name, "--tag", image.tag];
        self.umoci(desk, &[&add[..], &["through.tar"]].concat());
        image
    }

    /// Makes an image by buildah, which runs a command in a container for each layer.
    #[track_caller]
    pub fn built(&self, desk: &Desk) -> Image {
        let image = Image {
            layout: desk.path("built"),
            tag: "latest",
        };
        let text = |run: Run| run.ok().stdout.trim().to_owned();
        let container = text(self.buildah(desk).args(["from", "scratch"]));
        let root = text(self.buildah(desk).args(["mount", &container]));
        let root = Path::new(&root);
        self.shell_at(
            desk,
            root,
            r#"mkdir -p "$ROOT"/bin; put busybox-static
            for name in sh mkdir ln rm chown chmod; do ln -s busybox "$ROOT"/bin/$name; done"#,
        );
        self.buildah(desk)
            .args(["config", "--env", "PATH=/bin", "--env", "GREETING=good day"])
            .args([
                "--entrypoint",
                r#"["/bin/busybox", "echo"]"#,
                "--cmd",
                "hello",
            ])
            .args([
                "--user",
                "1000:1001",
                "--workingdir",
                "/data",
                "--label",
                "a=b",
            ])
            .arg(&container)
            .ok();
        let commit = |container: &str| {
            self.buildah(desk)
                .args(["commit", "--quiet", container, "built"])
                .ok();
        };
        commit(&container);
        for command in BUILT {
            let container = text(self.buildah(desk).args(["from", "built"]));
            self.buildah(desk)
                .args(["run", "--isolation", "chroot", "--user", "0", &container])
                .args(["--", "/bin/sh", "-ec", command])
                .ok();
            commit(&container);
        }
        self.buildah(desk)
            .args(["push", "--quiet", "built", &image.reference()])
            .ok();
        image
    }

    /// The tree that `umoci unpack` makes of an image.
    #[track_caller]
    pub fn umoci_tree(&self, desk: &Desk, image: &Image) -> Tree {
        let bundle = tempfile::tempdir_in(desk.home()).expect("home can be written");
        let name = format!("{}:{}", image.layout.display(), image.tag);
        let path = bundle.path().join("bundle");
        self.umoci(
            desk,
            &["unpack", "--image", &name, &path.display().to_string()],
        );
        Tree::of(path.join("rootfs"))
    }

    /// The tree that buildah mounts of an image.
    #[track_caller]
    pub fn buildah_tree(&self, desk: &Desk, image: &Image) -> Tree {
        let text = |run: Run| run.ok().stdout.trim().to_owned();
        // Relative: buildah makes a name of it, which has no capital letters.
        let layout = image.layout.file_name().expect("a layout has a name");
        let reference = format!("oci:{}:{}", layout.display(), image.tag);
        let container = text(self.buildah(desk).args(["from", "--quiet", &reference]));
        let root = text(self.buildah(desk).args(["mount", &container]));
        let tree = Tree::of(root);
        self.buildah(desk).args(["rm", &container]).ok();
        tree
    }

    /// `buildah` with a store at the desk, of whole directories: nothing of it stays on the machine.
    pub fn buildah(&self, desk: &Desk) -> Run {
        let store = [
            "--root",
            "store",
            "--runroot",
            "containers",
            "--storage-driver",
            "vfs",
        ];
        desk.run(&self.buildah).args(store).limit(LIMIT)
    }

    #[track_caller]
    fn umoci(&self, desk: &Desk, arguments: &[&str]) {
        desk.run(&self.umoci).args(arguments).limit(LIMIT).ok();
    }

    #[track_caller]
    fn configure(&self, desk: &Desk, name: &str) {
        desk.run(&self.umoci)
            .args(["config", "--image", name])
            .args(["--config.entrypoint", "/usr/bin/perl"])
            .args(["--config.cmd", "/opt/greet"])
            .args(["--config.env", "PATH=/usr/sbin:/usr/bin"])
            .args(["--config.env", "GREETING=good day"])
            .args(["--config.user", "1000:1001", "--config.workingdir", "/tmp"])
            .args(["--config.label", "org.example.what=packages"])
            .args(["--config.exposedports", "80/tcp"])
            .args(["--config.volume", "/var/lib/data"])
            .args(["--config.stopsignal", "SIGQUIT"])
            .ok();
    }

    /// Runs a script on what umoci unpacked.
    #[track_caller]
    fn shell(&self, desk: &Desk, script: &str) {
        self.shell_at(desk, &desk.path("work/rootfs"), script);
    }

    #[track_caller]
    fn shell_at(&self, desk: &Desk, root: &Path, script: &str) {
        const PUT: &str = r#"put() { for name; do
            dpkg-deb --fsys-tarfile "$PACKAGES"/"$name"_*.deb |
                tar -xp --numeric-owner --keep-directory-symlink -C "$ROOT"
        done; }"#;
        desk.run("/bin/sh")
            .args(["-ec", &format!("{PUT}\n{script}")])
            .env("ROOT", root)
            .env("PACKAGES", &self.packages)
            .limit(LIMIT)
            .ok();
    }
}
