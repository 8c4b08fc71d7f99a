#!/usr/bin/env bash
# Run the contract suite against a real kube-apiserver and kube-controller-manager, on loopback.
# Needs go, etcd, openssl and a Python with this project's development packages (PYTHON).
# The first run builds Kubernetes into CONTRACT_CACHE. Arguments go to pytest.
set -euo pipefail
version=${KUBERNETES_VERSION:-1.32.9}
cache=${CONTRACT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kubernetes-contract}/$version
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)

build() {
  mkdir -p "$cache" && cd "$cache"
  kubernetes=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
  {
    printf 'module contract\n'
    grep -E '^(go|godebug) ' "$kubernetes"
    printf 'require k8s.io/kubernetes v%s\n' "$version"
    # Its libraries are folders of its repository, and published under the minor version.
    sed -nE "s#^[[:space:]]*(k8s.io/[a-z-]+) => ./staging.*#replace \1 => \1 v0.${version#*.}#p" "$kubernetes"
  } >go.mod
  printf '//go:build tools\npackage contract\nimport _ "k8s.io/kubernetes/cmd/%s"\n' kube-apiserver >a.go
  printf '//go:build tools\npackage contract\nimport _ "k8s.io/kubernetes/cmd/%s"\n' kube-controller-manager >b.go
  go mod tidy -e 2>/dev/null
  CGO_ENABLED=0 go build -buildvcs=false -o bin/ \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version" \
    k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager
}

stop() {
  for process in $(jobs -p); do kill "$process" 2>/dev/null || true; done
  wait || true
  rm -rf "$run"
}

answers() { # command, what
  for _ in $(seq 300); do
    if "${@:2}" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "$1 does not answer:" >&2 && tail -n 20 "$run"/*.log >&2 && exit 1
}

[ -x "$cache/bin/kube-apiserver" ] && [ -x "$cache/bin/kube-controller-manager" ] || (build)
run=$(mktemp -d)
trap stop EXIT
read -r api etcd peer < <("$python" - <<'PORTS'
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*[taken.getsockname()[1] for taken in sockets])
PORTS
)
token=$(openssl rand -hex 16)
umask 077
openssl genrsa -out "$run/accounts.key" 2048 2>/dev/null
openssl rsa -in "$run/accounts.key" -pubout -out "$run/accounts.pub" 2>/dev/null
echo "$token,admin,admin,system:masters" >"$run/tokens.csv"
cat >"$run/kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
clusters: [{name: real, cluster: {server: "https://127.0.0.1:$api", certificate-authority: "$run/apiserver.crt"}}]
users: [{name: admin, user: {token: "$token"}}]
contexts: [{name: real, context: {cluster: real, user: admin}}]
current-context: real
CONFIG

etcd --data-dir "$run/etcd" --log-level error \
  --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
  --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
  --initial-cluster "default=http://127.0.0.1:$peer" >"$run/etcd.log" 2>&1 &
"$cache/bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd" \
  --bind-address 127.0.0.1 --secure-port "$api" --cert-dir "$run" \
  --service-cluster-ip-range 10.96.0.0/16 --authorization-mode RBAC \
  --token-auth-file "$run/tokens.csv" --service-account-issuer https://kubernetes.default.svc \
  --service-account-signing-key-file "$run/accounts.key" \
  --service-account-key-file "$run/accounts.pub" >"$run/apiserver.log" 2>&1 &
answers "the API server" curl -fsS --cacert "$run/apiserver.crt" "https://127.0.0.1:$api/readyz"
"$cache/bin/kube-controller-manager" --kubeconfig "$run/kubeconfig" --secure-port 0 \
  --leader-elect=false --root-ca-file "$run/apiserver.crt" \
  --service-account-private-key-file "$run/accounts.key" >"$run/controllers.log" 2>&1 &
cd "$here/../.."
"$python" -m pytest tests/contract --kubeconfig "$run/kubeconfig" "$@"
