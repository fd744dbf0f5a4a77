//go:build !amd64 && !arm64

package boot

func machineCode() []byte { return nil }
