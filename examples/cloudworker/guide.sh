#!/usr/bin/env bash
# The commands of docs/cloudworker.md, to be run in an empty directory; made of it by
# go test ./test/guide -run TestScript -update
set -euo pipefail

# Queues, monitor and a cluster that echoes

cat > shop.yaml <<'END'
version: 1
name: shop
provider: local
queue:
  kind: navvy
  request: requests
service:
  kind: echo
monitor:
  kind: prometheus
  dir: monitor
workers:
  count: 2
  concurrency: 10
END
navvy cluster plan -f shop.yaml
navvy cluster apply -f shop.yaml
navvy cluster status shop

# Send, receive, delete

server=${XDG_STATE_HOME:-$HOME/.local/state}/navvy-clusters/shop/server
seq -f 'request %g' 1000 > requests.txt
navvy --data "$server" queue send requests -a requests.txt > ids.txt
: > echoed.txt
until [ "$(wc -l < echoed.txt)" -ge 1000 ]; do
	navvy --data "$server" queue recv requests -n 1000 --wait 10s >> echoed.txt
done
sort requests.txt > expected.txt
sort echoed.txt | cmp - expected.txt

# A service of your own, from the share

mkdir files
seq 1000 | awk '{ print "item-" $1 "," $1 * 3 }' > files/prices.csv
cat > files/price <<'END'
#!/bin/sh
# Reads the name of an item, and writes what it costs.
read -r item
awk -F, -v item="$item" '$1 == item { print item " costs " $2; found = 1 } END { exit !found }' "$(dirname "$0")/prices.csv"
END
chmod +x files/price
cat > shop.yaml <<'END'
version: 1
name: shop
provider: local
queue:
  kind: navvy
  request: requests
share:
  - from: files
    at: files
service:
  kind: cgi
  command: ./files/price
  timeout: 1m
monitor:
  kind: prometheus
  dir: monitor
workers:
  count: 2
  concurrency: 10
END
navvy cluster plan -f shop.yaml
navvy cluster apply -f shop.yaml

seq -f 'item-%g' 1000 > requests.txt
navvy --data "$server" queue send requests -a requests.txt > ids.txt
: > answers.txt
until [ "$(wc -l < answers.txt)" -ge 1000 ]; do
	navvy --data "$server" queue recv requests -n 1000 --wait 10s >> answers.txt
done
seq 1000 | awk '{ printf "{\"ExitCode\":0,\"Stdout\":\"item-%d costs %d\\n\",\"Stderr\":\"\",\"Exception\":null}\n", $1, $1 * 3 }' | sort > expected.txt
sort answers.txt | cmp - expected.txt

# Look, scale, delete

ls monitor
navvy cluster scale shop --workers 4
navvy cluster status shop
navvy cluster ls
navvy cluster destroy shop --yes
navvy cluster ls
