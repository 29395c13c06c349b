# registry: the CNCF distribution registry, the other server that our clients are run against. Sourced
# by install.
. "$here/go.sh"
go_peer registry github.com/distribution/distribution/v3/cmd/registry v3.1.2
