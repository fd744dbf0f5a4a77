// Command align is a client's image in the tests of the folder above: a program that knows S3
// and the environment of the contract, in both generations, and nothing of navvy. What it
// reads from the input bucket says what it does.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "align:", err)
		os.Exit(1)
	}
}

// run reads the object input, and does what it says.
func run(ctx context.Context) error {
	for _, name := range []string{"MSTC_JOB", "INPUT_BUCKET", "OUTPUT_BUCKET", "FILE_PREFIX", "INPUT_BUCKET_URL", "OUTPUT_BUCKET_URL"} {
		if value, ok := os.LookupEnv(name); ok {
			fmt.Printf("%s=%s\n", name, value)
		}
	}
	from, to := where()
	o, err := from.client().GetObject(ctx, &s3.GetObjectInput{Bucket: &from.bucket, Key: aws.String(from.prefix + "input")})
	if err != nil {
		return err
	}
	defer func() { _ = o.Body.Close() }()
	text, err := io.ReadAll(o.Body)
	if err != nil {
		return err
	}
	fmt.Printf("read %d bytes\n", len(text))
	what, rest, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	switch what {
	case "exit":
		code, words, _ := strings.Cut(rest, " ")
		fmt.Fprintln(os.Stderr, words)
		n, err := strconv.Atoi(code)
		if err != nil {
			return err
		}
		os.Exit(n)
	case "memory":
		for all := [][]byte{}; ; {
			all = append(all, bytes.Repeat([]byte{byte(len(all))}, 1<<20))
		}
	case "wait": // whatever anybody asks
		signal.Ignore(syscall.SIGTERM)
		for range time.Tick(time.Hour) {
			fmt.Println("waits")
		}
	}
	_, err = to.client().PutObject(ctx, &s3.PutObjectInput{Bucket: &to.bucket, Key: aws.String(to.prefix + "output"), Body: bytes.NewReader(bytes.ToUpper(text))})
	if err == nil {
		fmt.Printf("wrote %d bytes\n", len(text))
	}
	return err
}

// place is a bucket on a server, and what the names of its objects begin with.
type place struct{ server, bucket, prefix string }

// where are the inputs and the outputs, as the environment says.
func where() (from, to place) {
	if os.Getenv("MSTC_JOB") != "true" { // the first generation
		return split(os.Getenv("INPUT_BUCKET_URL")), split(os.Getenv("OUTPUT_BUCKET_URL"))
	}
	server := "http://" + net.JoinHostPort(os.Getenv("MINIO_SERVICE_HOST"), os.Getenv("MINIO_SERVICE_PORT"))
	prefix := os.Getenv("FILE_PREFIX")
	if prefix != "" {
		prefix += "-"
	}
	return place{server, os.Getenv("INPUT_BUCKET"), prefix}, place{server, os.Getenv("OUTPUT_BUCKET"), prefix}
}

// split reads the URL of a bucket.
func split(url string) place {
	i := strings.LastIndex(url, "/")
	return place{server: url[:max(i, 0)], bucket: url[i+1:]}
}

// client is who is told to be by the environment.
func (p place) client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &p.server, Region: "us-east-1", UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}, nil
		}),
	})
}
