# Builds one Go program at a fixed version into target/peers/bin. Sourced by the peers that need it.
#   go_peer PROGRAM PACKAGE VERSION
go_peer() {
    local program=$1 package=$2 version=$3
    # The stamp holds the version, so that a newer one named here replaces an older one found there.
    local stamp=$peers/$program.version
    if [ -x "$peers/bin/$program" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then return; fi
    if ! have go; then
        give_up "$program" "it is built from source with Go, which is not installed"
        return
    fi
    say "building $program $version with go install"
    if GOBIN=$peers/bin quietly go install "$package@$version"; then
        echo "$version" >"$stamp"
    else
        give_up "$program" "go install $package@$version failed"
    fi
}
