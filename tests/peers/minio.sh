# minio: a server that speaks S3, with the conditional writes that a registry on a bucket needs. Sourced
# by install.
. "$here/go.sh"
go_peer minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c
