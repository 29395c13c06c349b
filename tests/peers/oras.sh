# oras: packaged by Debian, but only in a release newer than many machines have. Its package alone is
# fetched from that release and unpacked into target/peers; the machine's own packages and lists stay
# as they are. Sourced by install.

oras_suite=trixie

# Prints where this machine gets its Debian packages from.
debian_mirror() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk '$3 == "main" && $2 !~ /-/ { print $1; exit }'
}

fetch_oras() {
    local own=$peers/apt mirror
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || { echo "apt names no mirror of Debian"; return 1; }
    mkdir -p "$own/state/lists/partial" "$own/cache/archives/partial" "$own/download"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$mirror" "$oras_suite" /usr/share/keyrings/debian-archive-keyring.gpg >"$own/oras.sources"
    local apt=(apt-get -o "Dir::Etc::SourceList=$own/oras.sources" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State=$own/state" -o "Dir::Cache=$own/cache" -o Acquire::Languages=none
        -o APT::Sandbox::User="$(id -un)")
    "${apt[@]}" update && (cd "$own/download" && "${apt[@]}" download oras) &&
        dpkg -x "$own"/download/oras_*.deb "$own/unpacked" &&
        cp "$own/unpacked/usr/bin/oras" "$peers/bin/oras" && rm -rf "$own"
}

if ! have oras; then
    say "fetching oras from Debian $oras_suite with apt-get"
    if ! have apt-get || ! have dpkg; then
        give_up oras "there is no apt-get here; install oras 1.2 or newer and put it on PATH"
    elif ! quietly fetch_oras; then
        give_up oras "no package of it could be fetched from Debian $oras_suite"
    fi
fi
