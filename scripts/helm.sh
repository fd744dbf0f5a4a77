#!/usr/bin/env bash
# helm.sh: the chart of navvy, with Helm as tools/helm/go.mod pins it; the first build takes
# some minutes.
#
#   helm.sh path          where Helm is
#   helm.sh check         lint the chart, render it with values of all kinds, and see that
#                         deploy/manifests is what it renders
#   helm.sh manifests     write deploy/manifests, also what navvy cluster applies
#   helm.sh install       the release RELEASE (navvy) in NAMESPACE (navvy), which is made; with
#                         the image IMAGE and what HELM_ARGS adds; an upgrade if it is there
#   helm.sh uninstall     that release; its volume and its namespace stay
set -euo pipefail
cd "$(dirname "$0")/.."
chart=deploy/helm/navvy
manifests=deploy/manifests/navvy.yaml
# Rendered without a cluster, for none older than the chart wants.
version=1.26.0
release=${RELEASE:-navvy}
namespace=${NAMESPACE:-navvy}

helm() {
	"$(path)" "$@"
}

path() {
	go tool -modfile=tools/helm/go.mod -n helm
}

render() {
	helm template navvy "$chart" --namespace navvy --kube-version "$version" "$@"
}

plain() {
	cat <<'END'
# navvy on Kubernetes without Helm: deploy/helm/navvy with its own values, in namespace navvy.
# Made by make manifests; change the chart, not this. Set the image, then:
#   kubectl create namespace navvy; kubectl apply -f navvy.yaml
END
	render | grep -v -e '^# Source: ' -e '^    helm.sh/chart: ' -e '^        helm.sh/chart: ' | sed 's|managed-by: Helm|managed-by: kubectl|'
}

# clusters are what cluster/kubernetes applies, by how it scales: the chart with names that stand
# for those of a cluster's file.
scalers=(none keda hpa)
clusterfile() { echo "deploy/manifests/cluster/$1.yaml"; }
cluster() {
	echo '# What navvy cluster applies on Kubernetes. Made by make manifests; change the chart, not this.'
	helm template cluster-name "$chart" --namespace cluster-space --kube-version "$version" \
		--set "app.name=cluster-name,app.image.repository=cluster-image,app.image.tag=cluster-tag,scaling.by=$1" |
		grep -v -e '^# Source: ' -e '^    helm.sh/chart: ' -e '^        helm.sh/chart: ' -e '^ *app.kubernetes.io/version: ' |
		sed 's|managed-by: Helm|managed-by: navvy|'
}

# image gives the values for an image: what is behind the last colon is its tag, unless a slash
# is behind that, as it is of a registry's port.
image() {
	local repository=$1 tag=
	if [[ ${1##*/} == *:* ]]; then
		repository=${1%:*} tag=${1##*:}
	fi
	printf '%s\n' --set-string "app.image.repository=$repository,app.image.tag=$tag"
}

# images sees to it that the pods' image is the one that was named.
images() {
	local own named want args
	own=$(sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$chart/Chart.yaml")
	for named in navvy navvy:1 host:5000/navvy host:5000/team/navvy:1.0 host/navvy@sha256:0a; do
		want=$named
		[[ ${named##*/} == *:* ]] || want=$named:$own
		mapfile -t args < <(image "$named")
		if ! render "${args[@]}" | grep -xF "          image: \"$want\"" >/dev/null; then
			echo "helm: with IMAGE=$named no pod has the image $want" >&2
			return 1
		fi
	done
}

# variants are values of all kinds, each rendered.
variants() {
	render >/dev/null
	render --set app.replicaCount=2,app.name=other,app.account=mstc,app.image.tag=1,app.image.pullPolicy=Always >/dev/null
	render --set mstc.enabled=true,app.queue.host=q,app.queue.user=u,app.queue.pass=p,storage.host=s,storage.user=a,storage.pass=b >/dev/null
	render --set mstc.enabled=true,rabbitmq.enabled=true,rabbitmq.auth.pass=x,minio.enabled=true,minio.auth.pass=y >/dev/null
	render --set mstc.enabled=true,mstc.urlSecret=u,mstc.rest.open=true --set-json 'mstc.rest.from=[{"podSelector":{}}]' >/dev/null
	render --set scaling.by=keda,worker.labels.gpu=a100,worker.labels.zone=b >/dev/null
	render --set scaling.by=keda --set-string 'server.policy=users: {}' >/dev/null
	render --set scaling.by=hpa,worker.namespace=jobs --set-string 'worker.podTemplate=spec: {}' >/dev/null
	for bad in app.replicaCount=-1 scaling.by=magic no.such=1 mstc.rest.open=maybe mstc.enabled=true rabbitmq.enabled=true; do
		if render --set "$bad" >/dev/null 2>&1; then
			echo "helm: the chart takes $bad" >&2
			return 1
		fi
	done
}

case ${1:-} in
path) path ;;
check)
	helm lint --strict --quiet --kube-version "$version" "$chart"
	variants
	images
	if ! diff -u "$manifests" <(plain); then
		echo "helm: $manifests is not what the chart renders: make manifests" >&2
		exit 1
	fi
	for scaler in "${scalers[@]}"; do
		if ! diff -u "$(clusterfile "$scaler")" <(cluster "$scaler"); then
			echo "helm: $(clusterfile "$scaler") is not what the chart renders: make manifests" >&2
			exit 1
		fi
	done
	;;
manifests)
	mkdir -p "$(dirname "$manifests")"
	plain >"$manifests.new"
	mv "$manifests.new" "$manifests"
	for scaler in "${scalers[@]}"; do
		mkdir -p "$(dirname "$(clusterfile "$scaler")")"
		cluster "$scaler" >"$(clusterfile "$scaler").new"
		mv "$(clusterfile "$scaler").new" "$(clusterfile "$scaler")"
	done
	;;
install)
	image=()
	if [[ -n ${IMAGE:-} ]]; then
		mapfile -t image < <(image "$IMAGE")
	fi
	# shellcheck disable=SC2086 # they are several
	helm upgrade --install "$release" "$chart" --namespace "$namespace" --create-namespace "${image[@]}" ${HELM_ARGS:-}
	;;
uninstall)
	helm uninstall "$release" --namespace "$namespace"
	;;
*)
	sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
