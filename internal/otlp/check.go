package otlp

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/navvy-run/navvy"
)

// either gives a setting of the exporter: that for traces goes before that for all.
func either(getenv func(string) string, setting string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + setting
	if value = getenv(name); value != "" {
		return name, value
	}
	name = "OTEL_EXPORTER_OTLP_" + setting
	return name, getenv(name)
}

// check finds what in the environment the libraries would leave out, or take for something
// else, without a word that says so. No value that may be a secret is in its errors.
func check(getenv func(string) string) error {
	for _, c := range []func(func(string) string) error{checkEndpoint, checkWords, checkHeaders, checkCertificates, checkSampler, checkNumbers} {
		if err := c(getenv); err != nil {
			return err
		}
	}
	return nil
}

func wrong(name, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", name, fmt.Sprintf(format, args...), navvy.ErrInvalid)
}

func checkEndpoint(getenv func(string) string) error {
	name, text := either(getenv, "ENDPOINT")
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return wrong(name, "want a URL such as http://127.0.0.1:4318")
	}
	return nil
}

func checkWords(getenv func(string) string) error {
	if kind := getenv("OTEL_TRACES_EXPORTER"); kind != "" && kind != "otlp" {
		return wrong("OTEL_TRACES_EXPORTER", "it is %q: there is otlp, and none", kind)
	}
	if name, protocol := either(getenv, "PROTOCOL"); protocol != "" && protocol != "http/protobuf" && protocol != "grpc" {
		return wrong(name, "it is %q: there is http/protobuf, and grpc", protocol)
	}
	return nil
}

func checkHeaders(getenv func(string) string) error {
	name, text := either(getenv, "HEADERS")
	for i, pair := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(value); text != "" && (!ok || strings.TrimSpace(key) == "" || err != nil) {
			return wrong(name, "header %d: want NAME=VALUE, with %% for what is not of letters and digits", i+1)
		}
	}
	return nil
}

func checkCertificates(getenv func(string) string) error {
	for _, setting := range []string{"CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"} {
		name, file := either(getenv, setting)
		if file == "" {
			continue
		}
		if _, err := os.ReadFile(file); err != nil {
			return wrong(name, "%v", err)
		}
	}
	return nil
}

// samplers are those of the specification.
var samplers = []string{"", "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

// checkSampler finds what would be taken for one that takes everything, which may cost.
func checkSampler(getenv func(string) string) error {
	sampler := getenv("OTEL_TRACES_SAMPLER")
	if !slices.Contains(samplers, strings.ToLower(strings.TrimSpace(sampler))) {
		return wrong("OTEL_TRACES_SAMPLER", "it is %q: there is one of%s", sampler, strings.Join(samplers, " "))
	}
	arg := getenv("OTEL_TRACES_SAMPLER_ARG")
	if ratio, err := strconv.ParseFloat(arg, 64); arg != "" && strings.HasSuffix(sampler, "ratio") && (err != nil || !(ratio >= 0 && ratio <= 1)) {
		return wrong("OTEL_TRACES_SAMPLER_ARG", "it is %q: want a number from 0 to 1, such as 0.01", arg)
	}
	return nil
}

func checkNumbers(getenv func(string) string) error {
	name, text := either(getenv, "TIMEOUT")
	settings := map[string]string{name: text}
	for _, batch := range []string{"SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE"} {
		settings["OTEL_BSP_"+batch] = getenv("OTEL_BSP_" + batch)
	}
	for name, text := range settings {
		if n, err := strconv.Atoi(text); text != "" && (err != nil || n < 1) {
			return wrong(name, "it is %q: want a whole number; times are in milliseconds", text)
		}
	}
	return nil
}
