# azurite-blob: Azure's own emulator of its blob storage. Sourced by install.

azurite_version=3.37.0

if [ "$(cat "$peers/azurite.version" 2>/dev/null)" != "$azurite_version" ] || [ ! -e "$peers/bin/azurite-blob" ]; then
    if ! have npm || ! have node; then
        give_up azurite "it is a program for Node, which is not installed"
    else
        say "fetching azurite $azurite_version with npm"
        if quietly npm install --prefix "$peers/azurite" --no-audit --no-fund --loglevel=error "azurite@$azurite_version"; then
            ln -sf ../azurite/node_modules/.bin/azurite-blob "$peers/bin/azurite-blob"
            echo "$azurite_version" >"$peers/azurite.version"
        else
            give_up azurite "npm install azurite@$azurite_version failed"
        fi
    fi
fi
