/** All conversations, most recently used first. */
import { Button } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { Link } from 'wouter'
import { useList } from '../api/queries'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { assistant as said } from '../words.assistant'

export function Conversations({ id }: { id: string }) {
  const found = useList('/v1/conversations')
  return (
    <nav className="conversations" aria-label={said.list}>
      <Button
        component={Link}
        href="/assistant"
        variant="default"
        leftSection={<IconPlus size={15} />}
        aria-current={id === '' ? 'page' : undefined}
      >
        {said.fresh}
      </Button>
      <Trouble error={found.error} retry={() => found.refetch()} />
      {!found.isPending && !found.rows.length && <p className="quiet">{said.none}</p>}
      <ul>
        {found.rows.map((one) => (
          <li key={one.id}>
            <Link href={`/assistant/${one.id}`} aria-current={one.id === id ? 'page' : undefined}>
              <span dir="auto">{one.title || said.untitled}</span>
              <small className="quiet">
                <Time at={one.updatedAt} />
              </small>
            </Link>
          </li>
        ))}
      </ul>
      {found.hasNextPage && (
        <Button variant="subtle" color="gray" onClick={() => found.fetchNextPage()}>
          {words.state.moreRows}
        </Button>
      )}
    </nav>
  )
}
