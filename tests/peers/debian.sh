# skopeo, umoci, buildah, podman, jq, strace, setcap, systemd-analyze, ntfs-3g (a file system that folds case) and btrfs-progs (one whose files share blocks): packages of the machine's own release. Sourced by install.

wanted=()
for name in skopeo umoci buildah podman jq strace ntfs-3g; do
    have "$name" || wanted+=("$name")
done
have mkfs.btrfs || wanted+=(btrfs-progs)
have setcap || wanted+=(libcap2-bin)
have systemd-analyze || wanted+=(systemd)

if [ ${#wanted[@]} -gt 0 ]; then
    say "installing ${wanted[*]} with apt-get"
    debian_install() {
        as_root apt-get update &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${wanted[@]}"
    }
    if ! have apt-get; then
        give_up "${wanted[*]}" "there is no apt-get here; install it with your package manager"
    elif ! quietly debian_install; then
        give_up "${wanted[*]}" "try: sudo apt-get install ${wanted[*]}"
    fi
fi
