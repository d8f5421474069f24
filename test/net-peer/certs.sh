#!/bin/sh
# Makes the certificates of test/net-peer/peer.js in a directory: an authority of our own (ca.crt), and
# keys for 127.0.0.1 and good.test that are good, expired, for another host, and signed by themselves.
set -eu
cd "$1"
new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
names="subjectAltName=IP:127.0.0.1,DNS:good.test"

$new -x509 -days 30 -subj "/CN=angles test authority" -keyout ca.key -out ca.crt \
  -addext basicConstraints=critical,CA:TRUE
$new -x509 -days 30 -subj "/CN=selfsigned" -keyout selfsigned.key -out selfsigned.crt -addext "$names"

sign() {
  $new -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
  echo "$2" > "$1.ext"
  touch index.txt
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" \
    -extfile "$1.ext" $3
}
sign good "$names" "-days 30"
sign wronghost "subjectAltName=DNS:elsewhere.test" "-days 30"

# openssl x509 cannot date back, openssl ca can
$new -subj "/CN=expired" -keyout expired.key -out expired.csr
: > index.txt
printf '%s\n' '[ca]' 'default_ca=c' '[c]' 'database=index.txt' 'new_certs_dir=.' 'rand_serial=yes' \
  'policy=p' 'default_md=sha256' 'x509_extensions=e' '[p]' 'commonName=supplied' '[e]' "$names" > ca.cnf
openssl ca -batch -config ca.cnf -cert ca.crt -keyfile ca.key -in expired.csr -out expired.crt \
  -startdate 20200101000000Z -enddate 20200201000000Z -notext
