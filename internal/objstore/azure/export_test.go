package azure

// Redirect sends the requests of a store elsewhere.
func (s *Store) Redirect(base string) { s.base = base }
