# crane: the command line of go-containerregistry. Sourced by install.
. "$here/go.sh"
go_peer crane github.com/google/go-containerregistry/cmd/crane v0.22.1
