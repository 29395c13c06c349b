# regctl: the command line of regclient. Sourced by install.
. "$here/go.sh"
go_peer regctl github.com/regclient/regclient/cmd/regctl v0.11.7
