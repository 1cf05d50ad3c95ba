package config

import "github.com/holdfast-pg/holdfast/internal/spelling"

func nearest(name string, candidates []string) string { return spelling.Nearest(name, candidates) }

func didYouMean(name string, candidates []string) string {
	return spelling.DidYouMean(name, candidates)
}
