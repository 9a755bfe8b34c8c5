cat > work.pl <<'END'
use strict;
use warnings;
my $scale = $ENV{SCALE};
if (my $library = $ENV{LD_PRELOAD}) {
    open my $maps, '<', '/proc/self/maps' or die;
    grep { index($_, $library) >= 0 } <$maps> or die "perl runs without $library";
}
my (%table, @list);
for my $i (1 .. 30000 * $scale) {
    push @{ $table{ $i % 1009 } }, "value $i";
    push @list, sprintf('%08x', $i * 2654435761 % 4294967296);
}
print scalar(keys %table), ' ', scalar(@{ $table{7} }), "\n";
@list = sort @list;
print "$list[0] $list[-1]\n";
my $text = join ' ', @list[0 .. 9999];
my $count = () = $text =~ /(\w)\1/g;
print "$count\n";
(my $other = $text) =~ s/([0-9]+)/<$1>/g;
print length($other), "\n";
delete $table{$_} for grep { $_ % 2 } keys %table;
print scalar(keys %table), "\n";
my $sum = 0;
for my $child (1 .. 10) {
    my $pid = open my $pipe, '-|';
    defined $pid or die;
    if (!$pid) {
        my @own = map { "x" x $_ } 1 .. 1000;
        print scalar(@own) * $child, "\n";
        exit 0;
    }
    $sum += <$pipe>;
    close $pipe or die;
}
print "$sum\n";
my $grown = '';
$grown .= chr(65 + $_ % 26) for 1 .. 200000 * $scale;
print length($grown), ' ', unpack('%32C*', $grown), "\n";
END
perl work.pl
