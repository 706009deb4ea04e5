#!/usr/bin/env bash
# CoAP against libcoap, an independent implementation (Debian's libcoap3-bin), in both directions, over UDP (RFC 7252,
# 6690, 7959) and over TLS (RFC 8323). One line for each check; fails if one fails.
#
#   tests/interop/libcoap.sh           check
#   tests/interop/libcoap.sh --keep    keep the logs
#
# Programs from MOTE_BIN_DIR, else they are built.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/simulated.sh
. tests/qemu/simulated.sh

options "$@"
begin libcoap
bin=$(readlink -f "$bin")

# answers WHAT FOUND EXPECTED: EXPECTED is a pattern of `case`.
answers() {
  # shellcheck disable=SC2254
  case $2 in
    $3) printf 'ok   %s\n' "$1" ;;
    *)
      printf 'FAIL %s: found "%s", expected "%s"\n' "$1" "$2" "$3"
      failures=$((failures + 1))
      ;;
  esac
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
  -subj /CN=mote-interop -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
  -addext basicConstraints=critical,CA:FALSE \
  -keyout "$dir/tls.key" -out "$dir/tls.crt" 2>/dev/null
pin=$(openssl x509 -in "$dir/tls.crt" -noout -pubkey | openssl pkey -pubin -outform der | sha256sum | cut -c 1-64)

verifier_port=$(free_udp_port)
secure=$(free_tcp_pair)
verifier_with_tls() { verifier_on --listen-tls "127.0.0.1:$secure" --tls-cert "$dir/tls.crt" --tls-key "$dir/tls.key"; }
verifier_with_tls
# libcoap's server: UDP and TCP there, DTLS and TLS one above.
other=$(free_tcp_pair)
mkdir "$dir/server"
(cd "$dir/server" && exec coap-server-openssl -A 127.0.0.1 -p "$other" -d 10 -c "$dir/tls.crt" -j "$dir/tls.key" -n) \
  >"$dir/server.log" 2>&1 &
pids+=($!)
wait_for 60 'libcoap answers' coap-client-notls -B 1 "coap://127.0.0.1:$other/"

# What libcoap prints of a message in its trace, from our side: "v:1 t:ACK c:2.05 ...".
udp() { coap-client-notls -B 5 "$@" 2>&1; }
tls() { coap-client-openssl -B 5 -R "$dir/tls.crt" "$@" 2>&1; }
ours() { "$bin/mote-coap-client" "$@" 2>&1; }

for transport in udp tls; do
  base=coap://127.0.0.1:$verifier_port
  if [ "$transport" = tls ]; then base=coaps+tcp://127.0.0.1:$secure; fi
  answers "libcoap -> mote, $transport: /.well-known/core is link format with a resource type" \
    "$($transport "$base/.well-known/core")" '</h>;rt=mote'
  answers "libcoap -> mote, $transport: its content format is 40" \
    "$($transport -v 7 "$base/.well-known/core")" '*c:2.05*Content-Format:application/link-format*'
  answers "libcoap -> mote, $transport: an unknown path is 4.04" "$($transport "$base/nope")" '*4.04*'
  answers "libcoap -> mote, $transport: an unknown critical option is 4.02" \
    "$($transport -O 2049,x "$base/.well-known/core")" '*4.02*'
  answers "libcoap -> mote, $transport: an unknown elective option is ignored" \
    "$($transport -O 2050,x "$base/.well-known/core")" '</h>;rt=mote'
  answers "libcoap -> mote, $transport: open without OSCORE is 4.01" "$($transport -m post -e x "$base/o")" '*4.01*'
  answers "libcoap -> mote, $transport: the wrong method is 4.05" "$($transport "$base/h")" '*4.05*'
done
answers "libcoap -> mote, udp: the answer is no longer than the request" \
  "$(udp -v 7 -U "coap://127.0.0.1:$verifier_port/.well-known/core" | sed -n 's/.*\(sent\|received\) \([0-9]*\) bytes.*/\2/p' |
    paste -sd ' ' | awk '{ if ($2 > 0 && $2 <= $1) print "holds"; else print $0 }')" holds
# hello is answered only to who receives at its address (RFC 9175, 2.3): libcoap repeats each block with
# the Echo value that it was asked for. A device that nobody knows, without keys.
printf '\243\000\001\001\120AAAAAAAAAAAAAAAA\002\120BBBBBBBBBBBBBBBB' >"$dir/hello"
echoed=$(udp -v 7 -b 16 -m post -f "$dir/hello" "coap://127.0.0.1:$verifier_port/h" | grep -E '^v:1')
answers "libcoap -> mote, udp: a hello is asked for an Echo, and taken with it" \
  "$(printf '%s' "$echoed" | tr '\n' ' ')" '*c:4.01*Echo:0x*c:POST*Echo:0x*c:2.31*Block1:0/M/16*c:4.04*'
answers "libcoap -> mote, udp: and no block without" \
  "$(printf '%s\n' "$echoed" | awk '/c:POST/ { echo = /Echo/ } /t:ACK/ && !echo && !/c:4.01/ { taken++ } END { print taken + 0 }')" 0
# /.well-known/core needs none: one request, one answer, also to a verifier that has just died.
verifier_kill
verifier_with_tls
found=$(udp -v 7 "coap://127.0.0.1:$verifier_port/.well-known/core" | grep -E '^v:1')
answers "libcoap -> mote, udp: /.well-known/core after the verifier's restart, without an Echo" \
  "$(printf '%s\n' "$found" | grep -oE 'c:(GET|[0-9.]+)|Echo' | paste -sd ' ')" 'c:GET c:2.05'
# A ping needs silence first: -l 1 loses the request, which -N does not repeat.
answers "libcoap -> mote, udp: a ping is answered with RST" \
  "$(udp -v 7 -B 3 -K 1 -N -l 1 "coap://127.0.0.1:$verifier_port/.well-known/core")" '*t:CON c:0.00*t:RST c:0.00*'
# libcoap pings only while it waits, and over TLS it cannot be made to: by hand, after an empty CSM.
answers "openssl -> mote, tls: a ping is answered with a pong, after our CSM" \
  "$( (printf '\000\341\001\342\167' && sleep 1) | timeout 2 openssl s_client -quiet -alpn coap -connect "127.0.0.1:$secure" 2>/dev/null | od -An -tx1)" \
  '*30 e1 22 0a 00 01 e3 77*'
answers "libcoap -> mote, tls: our CSM says what we take" \
  "$(tls -v 7 "coaps+tcp://127.0.0.1:$secure/.well-known/core")" '*c:CSM*Max-Message-Size:2560*'

base=coap://127.0.0.1:$other
answers "mote -> libcoap, udp: GET" "$(ours "$base/")" '2.05*libcoap*'
answers "mote -> libcoap, udp: /.well-known/core" "$(ours "$base/.well-known/core")" '2.05*</time>*'
answers "mote -> libcoap, udp: an unknown path" "$(ours "$base/nope")" '4.04*'
answers "mote -> libcoap, udp: a separate response, acknowledged" "$(ours "$base/async")" '2.05*done*'
head -c 1500 /dev/urandom >"$dir/body"
for block in 16 64 1024; do
  answers "mote -> libcoap, udp: PUT of 1,500 bytes in blocks of $block" \
    "$(ours --block "$block" --put "$dir/body" "$base/body$block")" '2.0[14]*'
  answers "mote -> libcoap, udp: GET of them in blocks of $block" \
    "$("$bin/mote-coap-client" --block "$block" "$base/body$block" 2>/dev/null | sha256sum)" "$(sha256sum <"$dir/body")"
done
base=coaps+tcp://127.0.0.1:$((other + 1))
answers "mote -> libcoap, tls: GET, the key pinned" "$(ours --pin "$pin" "$base/")" '2.05*libcoap*'
answers "mote -> libcoap, tls: GET, the certificate pinned" \
  "$(ours --pin "$(openssl x509 -in "$dir/tls.crt" -outform der | sha256sum | cut -c 1-64)" "$base/")" '2.05*libcoap*'
answers "mote -> libcoap, tls: an unknown path" "$(ours --pin "$pin" "$base/nope")" '4.04*'
answers "mote -> libcoap, tls: another key is refused" "$(ours --pin "$(printf '%064d' 0)" "$base/" || true)" '*invalid peer certificate*'
answers "mote -> mote, tls: GET, by authority" \
  "$(ours --ca "$dir/tls.crt" "coaps+tcp://localhost:$secure/.well-known/core")" '2.05*</h>;rt=mote'

conclude
