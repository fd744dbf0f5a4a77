package kubetest

// Pause is the image of what holds the namespaces of a pod.
const Pause = pause

// Archive is a tar archive of Image and Pause, as docker save makes them, for engines without
// a cluster.
func Archive() ([]byte, error) { return images() }
