# Loaded into git svn (PERL5OPT=-Msvn_window=<revision>): its fetch ends at that revision.
#
# git svn's own option for that, -r, also bounds the search for what a branch was copied from: the
# history before a copy would depend on where the windows of a conversion begin and end.
package svn_window;
use strict;
use warnings;

my $last;

sub import {
    (undef, $last) = @_;
    delete $ENV{PERL5OPT};
    return;
}

INIT {
    no warnings 'redefine';
    *Git::SVN::parse_revision_argument = sub {
        my ($first, $head) = @_;
        return ($first, $head < $last ? $head : $last);
    };
}

1;
