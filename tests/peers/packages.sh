# packages: some small packages of Debian as files, of which the scenarios make container images. They go
# to target/peers/packages and are not installed. Sourced by install.

names=(busybox-static libc6 libcrypt1 passwd perl-base)
lacking=()
for name in "${names[@]}"; do
    compgen -G "$peers/packages/${name}_*.deb" >/dev/null || lacking+=("$name")
done

if [ ${#lacking[@]} -gt 0 ]; then
    say "downloading ${lacking[*]} with apt-get"
    download_packages() {
        mkdir -p "$peers/packages"
        as_root apt-get update && (cd "$peers/packages" && apt-get download "${lacking[@]}")
    }
    if ! have apt-get || ! have dpkg-deb; then
        give_up "${lacking[*]}" "there is no apt-get here; put the .deb files into target/peers/packages"
    elif ! quietly download_packages; then
        give_up "${lacking[*]}" "try: apt-get download ${lacking[*]} in target/peers/packages"
    fi
fi
