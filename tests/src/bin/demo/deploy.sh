#!/bin/bash
# Stops the service of the old release and starts that of the new one.
# OLDROOT and NEWROOT are the two trees; the exit status decides whether the new one counts as deployed.
set -eu
. "$NEWROOT/service.conf"

if [ -n "$OLDROOT" ] && [ -f service.pid ]; then
    kill "$(cat service.pid)"
    while kill -0 "$(cat service.pid)" 2>/dev/null; do sleep 0.05; done
fi

mkdir -p service
setsid "$NEWROOT/deploy-registry" -addr 127.0.0.1:0 -dir service -anonymous write -maxver "$MAXVER" \
    >service.log 2>&1 </dev/null &
echo $! >service.pid

# It has taken a free port: its log says which.
address=
for _ in $(seq 200); do
    address=$(grep -Eom1 '127\.0\.0\.1:[1-9][0-9]*' service.log) && break
    sleep 0.05
done

# Asks the health endpoint, with nothing but the shell.
exec 3<>"/dev/tcp/${address/://}"
printf 'GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r _ status _ <&3
echo "$GREETING: the registry of $(basename "$NEWROOT" | cut -c1-19) on $address answers $status"
[ "$status" = 200 ]
echo "$NEWID $address $GREETING" >serving.new
mv serving.new serving
