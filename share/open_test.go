package share

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

// What is wrong with a URL is told when it is opened, and no secret with it.
func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const secret = "hidden"
	for url, want := range map[string]string{
		"":                               "no URL of a share",
		"dir":                            "no URL of a share",
		"http://host/x":                  "begins with azblob://, file://, s3://",
		"gs://bucket":                    "no URL of a share",
		"mem://":                         "no URL of a share",
		"file://host" + dir:              "three slashes",
		"file:" + dir + "?metadata=skip": `option "metadata" is unknown`,
		"file://":                        "three slashes",
		"file:relative":                  "no URL of a share",
		"file://" + dir + "#x":           "nothing behind a #",
		"s3://":                          "no name of a bucket",
		"s3://UPPER":                     "no name of a bucket",
		"s3://bucket?reigon=x":           `option "reigon" is unknown; s3:// has endpoint,`,
		"s3://bucket?region=x&region=y":  "stands twice",
		"s3://bucket?use_path_style=yes": "want true or false",
		"s3://bucket?disable_https=1":    "want true or false",
		"s3://bucket?endpoint=host:9000": "want a URL such as",
		"s3://bucket?endpoint=http://u:" + secret + "@h":       "without credentials",
		"azblob://container?storage_account=abc&domain=a/b":    "option domain",
		"s3://bucket?endpoint=ftp://host":                      "want a URL such as",
		"s3://bucket?%zz":                                      "invalid URL escape",
		"s3://key@bucket?region=x":                             "without its secret",
		"s3://k:" + secret + "@bucket/..?region=x":             "a dot",
		"s3://k:" + secret + "/x@bucket":                       "no URL",
		"s3//k:" + secret + "@bucket":                          "no URL of a share",
		"s3:k:" + secret + "@bucket":                           "no URL of a share",
		"k:" + secret + "@bucket":                              "no URL of a share",
		secret:                                                 "no URL of a share",
		"s4://k:s@bucket/" + secret:                            "no URL of a share",
		"s3://k:1/" + secret + "@bucket":                       "written as %2F",
		"s3://k:/" + secret + "@bucket":                        "written as %2F",
		"s3://k:1?" + secret + "@bucket":                       "written as %2F",
		"s3://k:1#" + secret + "@bucket":                       "behind a #",
		"s3://k:" + secret + "@bucket?x=y":                     "unknown",
		"azblob://c":                                           "no name of a container",
		"azblob://con--tainer":                                 "no name of a container",
		"azblob://container":                                   "which storage account",
		"azblob://container?x=y":                               "unknown",
		"azblob://container?storage_account=":                  "which storage account",
		"azblob://container?storage_account=A!":                "3 to 24",
		"azblob://account:" + secret + "%21@container":         "no account and its key",
		"azblob://account:aGk=@container?storage_account=othe": "another",
	} {
		s, err := Open(t.Context(), url, nil)
		if s != nil || !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	for connection, want := range map[string]string{"AccountKey=" + secret: "cannot be read", "AccountName=other;AccountKey=aGk=": "the account \"other\""} {
		url := "azblob://container"
		if strings.Contains(connection, "other") {
			url += "?storage_account=account"
		}
		if _, err := Open(t.Context(), url, &Options{AzureConnection: connection}); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
}

// A directory that is not there is told apart from what can be none.
func TestOpenNoDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Open(t.Context(), "file://"+dir+"/none", nil)
	if missing, ok := errors.AsType[*Missing](err); !errors.Is(err, navvy.ErrNotFound) || !ok || missing.Kind != "directory" {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(dir+"/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/f", "/f/x"} {
		if _, err := Open(t.Context(), "file://"+dir+path, nil); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "is no directory") {
			t.Errorf("a file is opened as a share: %v", err)
		}
	}
}

// use does all that a share can, and gives the errors.
func use(t *testing.T, s *Share) map[string]error {
	t.Helper()
	defer s.Close()
	_, errPut := s.Put(t.Context(), "a", strings.NewReader("x"), nil)
	_, errOpen := s.Open(t.Context(), "a")
	_, errStat := s.Stat(t.Context(), "a")
	errs := map[string]error{"put": errPut, "open": errOpen, "stat": errStat, "remove": s.Remove(t.Context(), "a")}
	for _, err := range s.List(t.Context(), "") {
		errs["list"] = err
	}
	return errs
}

func wantErrors(t *testing.T, s *Share, sentinel error, text, secret string) {
	t.Helper()
	for verb, err := range use(t, s) {
		if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

func TestS3Errors(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	g.Bucket(t, "bucket")
	wantErrors(t, opened(t, g.URL("none"), nil), navvy.ErrNotFound, "there is no bucket none", versitygwtest.Secret)
	wantErrors(t, opened(t, g.URLWith("wrong-secret", "bucket"), nil), navvy.ErrDenied, "the store answers", "wrong-secret")
}

func TestAzureErrors(t *testing.T) {
	t.Parallel()
	a := azuritetest.StartBlob(t)
	makeContainer(t, a, "container")
	wantErrors(t, opened(t, "azblob://none", &Options{AzureConnection: a.ConnectionString()}), navvy.ErrNotFound, "there is no container none", azuritetest.Key)
	wrong := a.ConnectionStringWith("d3Jvbmc=")
	wantErrors(t, opened(t, "azblob://container", &Options{AzureConnection: wrong}), navvy.ErrDenied, "the store answers", "d3Jvbmc=")
}

// Without credentials it is told which are missing, and not how they were looked for.
func TestNoCredentials(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true") // nobody outside is asked
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	wantErrors(t, opened(t, "s3://bucket?region=us-east-1&endpoint=http://127.0.0.1:1&use_path_style=true", nil), navvy.ErrDenied, "there are no credentials for S3", "IMDS")
	if _, err := Open(t.Context(), "s3://bucket", nil); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("%v", err)
	}
}

// Nobody is there.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := opened(t, "s3://k:hidden@bucket?use_path_style=true&endpoint=http://"+at, nil)
	wantErrors(t, s, navvy.ErrUnavailable, "connection refused", "hidden")
	if s.String() == "" || strings.Contains(s.String(), "hidden") {
		t.Error(s)
	}
}
