package share

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/navvy-run/navvy"
)

// regionless is the region of S3 that a new bucket must not name.
const regionless = "us-east-1"

// Make makes the bucket of a share in S3, if it is not there. The error wraps
// navvy.ErrUnsupported for shares of other kinds.
func (s *Share) Make(ctx context.Context) error {
	var client *s3.Client
	if s.whole == nil || !s.bucket.As(&client) {
		return s.wrap("make its place", "", fmt.Errorf("only buckets of S3 are made: %w", navvy.ErrUnsupported))
	}
	there, err := s.bucket.IsAccessible(ctx)
	if err != nil || there {
		return s.wrap("look at the bucket", "", err)
	}
	in := &s3.CreateBucketInput{Bucket: &s.whole.Name}
	if region := client.Options().Region; region != regionless {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(region)}
	}
	_, err = client.CreateBucket(ctx, in)
	// Somebody else may have made it since.
	if _, is := errors.AsType[*types.BucketAlreadyOwnedByYou](err); is {
		err = nil
	}
	if _, is := errors.AsType[*types.BucketAlreadyExists](err); is {
		if there, askErr := s.bucket.IsAccessible(ctx); askErr == nil && there {
			err = nil
		}
	}
	return s.wrap("make the bucket", "", err)
}
