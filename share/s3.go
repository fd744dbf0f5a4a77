package share

import (
	"context"
	"net/http"
	"net/url"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	gocloudaws "gocloud.dev/aws"
	"gocloud.dev/blob/s3blob"
)

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// maxCopyS3 is what S3 copies at once; see CopyObject in its reference.
const maxCopyS3 = 5 << 30

// openS3 opens a bucket. Its options are endpoint, an http:// or https:// URL of a store
// that is not Amazon's, region, profile, of the files that all programs for S3 read,
// anonymous, use_path_style and disable_https. The user and password of the URL are an
// access key and its secret; without them the AWS SDK looks where it always does.
func openS3(ctx context.Context, u *url.URL, _ *Options) (*Share, error) {
	values, err := options(u, "endpoint", "region", "profile", "anonymous", "use_path_style", "disable_https")
	if err != nil {
		return nil, err
	}
	if !bucketName.MatchString(u.Host) {
		return nil, invalid("%q is no name of a bucket: want s3://BUCKET, 3 to 63 small letters, digits, dots and -", u.Host)
	}
	pathStyle, err := flag(values, "use_path_style")
	if err != nil {
		return nil, err
	}
	plain, err := flag(values, "disable_https")
	if err != nil {
		return nil, err
	}
	config, err := s3Config(ctx, u, values)
	if err != nil {
		return nil, err
	}
	transport := newTransport()
	config.HTTPClient = &http.Client{Transport: transport}
	config.Logger = nil // it would write to standard error; what matters is in the errors
	client := s3.NewFromConfig(config, func(o *s3.Options) {
		o.UsePathStyle, o.EndpointOptions.DisableHTTPS = pathStyle, plain
		o.DisableLogOutputChecksumValidationSkipped = true // we have a checksum of our own
	})
	bucket, err := s3blob.OpenBucket(ctx, client, u.Host, &s3blob.Options{RequestChecksumCalculation: config.RequestChecksumCalculation})
	if err != nil {
		return nil, err
	}
	return &Share{bucket: bucket, transport: transport, whole: &Missing{"bucket", u.Host}, maxCopy: maxCopyS3}, nil
}

// s3Config reads the options that are about Amazon and its likes, and finds credentials.
func s3Config(ctx context.Context, u *url.URL, values url.Values) (aws.Config, error) {
	if text := values.Get("endpoint"); text != "" {
		if at, err := url.Parse(text); err != nil || at.Host == "" || at.User != nil || at.Scheme != "http" && at.Scheme != "https" {
			return aws.Config{}, invalid("option endpoint: want a URL such as https://store.example:9000, without credentials")
		}
		if values.Get("region") == "" {
			values.Set("region", "us-east-1") // what stores elsewhere take, if they ask at all
		}
	}
	values.Del("use_path_style") // those that are the client's
	values.Del("disable_https")
	config, err := gocloudaws.V2ConfigFromURLParams(ctx, values)
	if err != nil {
		return aws.Config{}, invalid("its settings: %v", err)
	}
	if config.Region == "" {
		return aws.Config{}, invalid("nothing says in which region the bucket is: give the option region, or set AWS_REGION")
	}
	if secret, ok := u.User.Password(); ok {
		key := aws.Credentials{AccessKeyID: u.User.Username(), SecretAccessKey: secret, Source: "the share's URL"}
		config.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return key, nil })
	} else if u.User != nil {
		return aws.Config{}, invalid("an access key stands there without its secret: want s3://KEY:SECRET@BUCKET, or none of both")
	} else if anonymous, err := flag(values, "anonymous"); err != nil {
		return aws.Config{}, err
	} else if !anonymous {
		config.Credentials = found(config.Credentials)
	}
	return config, nil
}

// found says it in short if the AWS SDK finds no credentials.
func found(where aws.CredentialsProvider) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		key, err := where.Retrieve(ctx)
		if err != nil && ctx.Err() == nil {
			err = noCredentials("there are no credentials for S3: not in the share's URL, the environment, ~/.aws, nor a role of this machine", err)
		}
		return key, err
	})
}
